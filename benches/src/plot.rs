//! Draws charts as SVG, without a plotting library and its dependencies.

use std::fmt::Write;

/// One bar.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Bar {
    /// Its name.
    pub label: String,
    /// Its length, 0 or more.
    pub value: f64,
    /// Whether it is highlighted.
    pub strong: bool,
}

/// Draws groups of bars, each group under its title and with its own scale.
#[must_use]
pub fn bars(title: &str, unit: &str, groups: &[(String, Vec<Bar>)]) -> String {
    let rows: usize = groups
        .iter()
        .map(|(_, bars)| bars.len().saturating_add(2))
        .sum();
    let height = rows.saturating_mul(ROW).saturating_add(2 * ROW);
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        svg,
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' font-size='12'>\
         <rect width='{WIDTH}' height='{height}' fill='white'/><text x='8' y='20' font-size='15'>{}</text>",
        escape(title)
    );
    let mut y = 2 * ROW;
    for (name, bars) in groups {
        let _ = write!(
            svg,
            "<text x='8' y='{}' font-weight='bold'>{}</text>",
            y.saturating_add(14),
            escape(name)
        );
        y = y.saturating_add(ROW);
        let longest = bars
            .iter()
            .map(|bar| bar.value)
            .fold(f64::MIN_POSITIVE, f64::max);
        for bar in bars {
            let length = bar.value / longest * LONGEST;
            let color = if bar.strong { "#2a6fb0" } else { "#b9c4cf" };
            let _ = write!(
                svg,
                "<text x='{}' y='{}' text-anchor='end'>{}</text><rect x='{LEFT}' y='{}' width='{length:.1}' height='14' \
                 fill='{color}'/><text x='{:.1}' y='{}'>{:.2} {}</text>",
                LEFT - 6,
                y.saturating_add(13),
                escape(&bar.label),
                y.saturating_add(2),
                length + f64::from(LEFT) + 6.0,
                y.saturating_add(13),
                bar.value,
                escape(unit)
            );
            y = y.saturating_add(ROW);
        }
        y = y.saturating_add(ROW);
    }
    svg.push_str("</svg>\n");
    svg
}

/// An event in time.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Event {
    /// Its name.
    pub label: String,
    /// Its start.
    pub start_us: f64,
    /// Its duration; `None` for a moment.
    pub length_us: Option<f64>,
    /// Whether it runs beside the main sequence.
    pub beside: bool,
}

/// Draws events below each other on a time axis.
#[must_use]
pub fn timeline(title: &str, events: &[Event]) -> String {
    let height = events.len().saturating_add(3).saturating_mul(ROW);
    let end = |event: &Event| event.start_us + event.length_us.unwrap_or(0.0);
    let total = events.iter().map(end).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        svg,
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' font-size='12'>\
         <rect width='{WIDTH}' height='{height}' fill='white'/><text x='8' y='20' font-size='15'>{}</text>",
        escape(title)
    );
    for (row, event) in events.iter().enumerate() {
        let y = row.saturating_add(2).saturating_mul(ROW);
        let x = f64::from(LEFT) + event.start_us / total * LONGEST;
        let width = (event.length_us.unwrap_or(0.0) / total * LONGEST).max(2.0);
        let color = match event.length_us {
            Some(_) if event.beside => "#b9c4cf",
            Some(_) => "#2a6fb0",
            None => "#c0392b",
        };
        let time = event.length_us.unwrap_or(event.start_us) / 1000.0;
        let _ = write!(
            svg,
            "<text x='{}' y='{}' text-anchor='end'>{}</text><rect x='{x:.1}' y='{}' width='{width:.1}' height='14' \
             fill='{color}'/><text x='{}' y='{}' text-anchor='end'>{time:.3} ms</text>",
            LEFT - 6,
            y.saturating_add(13),
            escape(&event.label),
            y.saturating_add(2),
            WIDTH - 8,
            y.saturating_add(13),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// One line of a diagram.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Line {
    /// Its name.
    pub label: String,
    /// Its points: both numbers above 0, the first one ascending.
    pub points: Vec<(f64, f64)>,
    /// Whether it is highlighted.
    pub strong: bool,
}

/// One diagram.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Diagram {
    /// The name of the horizontal axis.
    pub title: String,
    /// The labels below their places.
    pub ticks: Vec<(f64, String)>,
    /// The lines.
    pub lines: Vec<Line>,
}

/// Draws diagrams below each other with logarithmic scales. Linear growth rises by one square for
/// each square to the right.
#[must_use]
pub fn curves(title: &str, unit: &str, diagrams: &[Diagram]) -> String {
    let height = diagrams.len().saturating_mul(PANEL).saturating_add(2 * ROW);
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = write!(
        svg,
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' font-size='12'>\
         <rect width='{WIDTH}' height='{height}' fill='white'/><text x='8' y='20' font-size='15'>{}</text>",
        escape(title)
    );
    for (index, diagram) in diagrams.iter().enumerate() {
        let top = index.saturating_mul(PANEL).saturating_add(2 * ROW);
        let _ = write!(svg, "<g transform='translate(0 {top})'>");
        draw(&mut svg, unit, diagram);
        svg.push_str("</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, unit: &str, diagram: &Diagram) {
    let points = || diagram.lines.iter().flat_map(|line| &line.points);
    let ticks = || diagram.ticks.iter().map(|(x, _)| *x);
    let across = Scale::over(
        points().map(|(x, _)| *x).chain(ticks()),
        PLOT_LEFT,
        PLOT_RIGHT,
    );
    let up = Scale::over(points().map(|(_, y)| *y), PLOT_BOTTOM, PLOT_TOP);
    let _ = write!(
        svg,
        "<text x='8' y='14' font-weight='bold'>{}</text>\
         <path d='M{PLOT_LEFT} {PLOT_TOP}V{PLOT_BOTTOM}H{PLOT_RIGHT}' fill='none' stroke='#888888'/>",
        escape(&diagram.title)
    );
    for y in [up.least, up.most] {
        let at = up.place(y);
        let x = PLOT_LEFT - 6.0;
        let _ = write!(
            svg,
            "<text x='{x}' y='{at:.1}' text-anchor='end'>{y:.1} {}</text>",
            escape(unit)
        );
    }
    for (x, name) in &diagram.ticks {
        let (at, y) = (across.place(*x), PLOT_BOTTOM + 16.0);
        let _ = write!(
            svg,
            "<text x='{at:.1}' y='{y}' text-anchor='middle'>{}</text>",
            escape(name)
        );
    }
    for line in &diagram.lines {
        let color = if line.strong { "#2a6fb0" } else { "#8795a1" };
        let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", across.place(*x), up.place(*y));
        let path: Vec<String> = line.points.iter().map(place).collect();
        let _ = write!(
            svg,
            "<polyline points='{}' fill='none' stroke='{color}' stroke-width='2'/>",
            path.join(" ")
        );
        for (x, y) in &line.points {
            let (x, y) = (across.place(*x), up.place(*y));
            let _ = write!(
                svg,
                "<circle cx='{x:.1}' cy='{y:.1}' r='3' fill='{color}'/>"
            );
        }
        if let Some((x, y)) = line.points.last() {
            let (x, y) = (across.place(*x) + 8.0, up.place(*y) + 4.0);
            let name = escape(&line.label);
            let _ = write!(
                svg,
                "<text x='{x:.1}' y='{y:.1}' fill='{color}'>{name}</text>"
            );
        }
    }
}

/// The position of a number between two others, on a logarithmic scale.
struct Scale {
    least: f64,
    most: f64,
    from: f64,
    to: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut least, mut most) = (f64::INFINITY, f64::MIN_POSITIVE);
        for value in values {
            least = least.min(value);
            most = most.max(value);
        }
        Self {
            least,
            most,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let whole = (self.most / self.least).ln();
        let part = if whole > 0.0 {
            (value / self.least).ln() / whole
        } else {
            0.0
        };
        self.from + part * (self.to - self.from)
    }
}

/// Escapes text for SVG.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const WIDTH: u32 = 760;
const LEFT: u32 = 190;
const LONGEST: f64 = 470.0;
const ROW: usize = 18;
const PANEL: usize = 220;
const PLOT_LEFT: f64 = 90.0;
const PLOT_RIGHT: f64 = 640.0;
const PLOT_TOP: f64 = 30.0;
const PLOT_BOTTOM: f64 = 170.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_lie_where_they_are_in_time() {
        let event = |start_us, length_us| Event {
            label: "e".into(),
            start_us,
            length_us,
            beside: false,
        };
        let svg = timeline("t", &[event(0.0, Some(500.0)), event(1000.0, None)]);
        assert!(
            svg.contains("x='190.0'") && svg.contains("width='235.0'"),
            "{svg}"
        );
        assert!(
            svg.contains("x='660.0'") && svg.contains("1.000 ms"),
            "{svg}"
        );
    }

    #[test]
    fn what_grows_linearly_is_a_straight_line_from_corner_to_corner() {
        let line = Line {
            label: "a<b".into(),
            points: vec![(1.0, 2.0), (4.0, 8.0), (16.0, 32.0)],
            strong: true,
        };
        let diagram = Diagram {
            title: "vCPUs".into(),
            ticks: vec![(1.0, "1".into()), (16.0, "16".into())],
            lines: vec![line],
        };
        let svg = curves("t", "ms", &[diagram]);
        assert!(
            svg.contains("points='90.0,170.0 365.0,100.0 640.0,30.0'"),
            "{svg}"
        );
        assert!(svg.contains("a&lt;b") && svg.contains("32.0 ms"), "{svg}");
    }

    #[test]
    fn one_point_alone_is_drawn_somewhere() {
        let line = Line {
            label: "l".into(),
            points: vec![(3.0, 3.0)],
            strong: false,
        };
        let diagram = Diagram {
            title: String::new(),
            ticks: Vec::new(),
            lines: vec![line],
        };
        assert!(curves("t", "ms", &[diagram]).contains("cx='90.0' cy='170.0'"));
    }

    #[test]
    fn the_longest_bar_fills_the_width_and_names_are_text() {
        let bar = |label: &str, value| Bar {
            label: label.into(),
            value,
            strong: false,
        };
        let svg = bars(
            "a < b",
            "ms",
            &[("g".into(), vec![bar("x&y", 2.0), bar("z", 1.0)])],
        );
        assert!(svg.contains("width='470.0'") && svg.contains("width='235.0'"));
        assert!(svg.contains("a &lt; b") && svg.contains("x&amp;y"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
