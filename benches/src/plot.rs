//! A bar chart as SVG, drawn by hand: no plotting library is worth its dependencies here.

use std::fmt::Write;

/// One bar.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Bar {
    /// What it is called.
    pub label: String,
    /// How long it is, 0 or more.
    pub value: f64,
    /// Whether it stands out.
    pub strong: bool,
}

/// Draws groups of bars, each under its title, all on one scale of its own.
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

/// Something at a time.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Event {
    /// What it is called.
    pub label: String,
    /// When it began.
    pub start_us: f64,
    /// How long it took; `None` for a moment.
    pub length_us: Option<f64>,
}

/// Draws events below each other, each where it is in time.
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
        let color = if event.length_us.is_some() {
            "#2a6fb0"
        } else {
            "#c0392b"
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

/// Makes text of anything.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

const WIDTH: u32 = 760;
const LEFT: u32 = 190;
const LONGEST: f64 = 470.0;
const ROW: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_lie_where_they_are_in_time() {
        let event = |start_us, length_us| Event {
            label: "e".into(),
            start_us,
            length_us,
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
