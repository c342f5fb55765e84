//! Draws lines in diagrams with logarithmic scales.

use std::fmt::Write;

use super::{ROW, escape, open};

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

/// Draws diagrams below each other with logarithmic scales. The vertical scale is the same in all.
///
/// A highlighted line is solid with dots. Others are dashed with rings and drawn on top, so that
/// lines which coincide are both seen; their names stand apart.
#[must_use]
pub fn curves(title: &str, unit: &str, diagrams: &[Diagram]) -> String {
    let height = diagrams.len().saturating_mul(PANEL).saturating_add(3 * ROW);
    let mut svg = open(title, height);
    // Writing to a string does not fail.
    let _ = write!(
        svg,
        "<text x='8' y='38' fill='#555555'>The vertical scale is the same in all diagrams.</text>"
    );
    let points = diagrams.iter().flat_map(|diagram| &diagram.lines);
    let heights = points.flat_map(|line| &line.points).map(|(_, y)| *y);
    let up = Scale::over(heights, PLOT_BOTTOM, PLOT_TOP);
    for (index, diagram) in diagrams.iter().enumerate() {
        let top = index.saturating_mul(PANEL).saturating_add(3 * ROW);
        let _ = write!(svg, "<g transform='translate(0 {top})'>");
        draw(&mut svg, unit, diagram, &up);
        svg.push_str("</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, unit: &str, diagram: &Diagram, up: &Scale) {
    let points = || diagram.lines.iter().flat_map(|line| &line.points);
    let ticks = || diagram.ticks.iter().map(|(x, _)| *x);
    let across = Scale::over(
        points().map(|(x, _)| *x).chain(ticks()),
        PLOT_LEFT,
        PLOT_RIGHT,
    );
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
    let strong_first = [true, false];
    let lines = strong_first.into_iter().flat_map(|strong| {
        let lines = diagram.lines.iter();
        lines.filter(move |line| line.strong == strong)
    });
    let mut names: Vec<(f64, f64, &Line)> = Vec::new();
    for line in lines {
        draw_line(svg, line, &across, up);
        if let Some((x, y)) = line.points.last() {
            names.push((across.place(*x) + 8.0, up.place(*y) + 4.0, line));
        }
    }
    write_names(svg, names);
}

fn draw_line(svg: &mut String, line: &Line, across: &Scale, up: &Scale) {
    let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", across.place(*x), up.place(*y));
    let path: Vec<String> = line.points.iter().map(place).collect();
    let color = color(line);
    let dashes = if line.strong {
        ""
    } else {
        " stroke-dasharray='5 4'"
    };
    let dot = if line.strong {
        format!("r='3' fill='{color}'")
    } else {
        format!("r='5' fill='none' stroke='{color}'")
    };
    let _ = write!(
        svg,
        "<polyline points='{}' fill='none' stroke='{color}' stroke-width='2'{dashes}/>",
        path.join(" ")
    );
    for (x, y) in &line.points {
        let (x, y) = (across.place(*x), up.place(*y));
        let _ = write!(svg, "<circle cx='{x:.1}' cy='{y:.1}' {dot}/>");
    }
}

/// Writes the names at the ends of their lines, moved down where one would cover another.
fn write_names(svg: &mut String, mut names: Vec<(f64, f64, &Line)>) {
    names.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut free = f64::NEG_INFINITY;
    for (x, y, line) in names {
        let y = y.max(free);
        free = y + NAME_HEIGHT;
        let (color, name) = (color(line), escape(&line.label));
        let _ = write!(
            svg,
            "<text x='{x:.1}' y='{y:.1}' fill='{color}'>{name}</text>"
        );
    }
}

fn color(line: &Line) -> &'static str {
    if line.strong { "#2a6fb0" } else { "#c0392b" }
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

const PANEL: usize = 220;
const PLOT_LEFT: f64 = 90.0;
const PLOT_RIGHT: f64 = 640.0;
const PLOT_TOP: f64 = 30.0;
const PLOT_BOTTOM: f64 = 170.0;
const NAME_HEIGHT: f64 = 14.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str, points: &[(f64, f64)], strong: bool) -> Line {
        Line {
            label: label.into(),
            points: points.into(),
            strong,
        }
    }

    fn diagram(lines: Vec<Line>) -> Diagram {
        Diagram {
            title: "vCPUs".into(),
            ticks: vec![(1.0, "1".into()), (16.0, "16".into())],
            lines,
        }
    }

    const STRAIGHT: [(f64, f64); 3] = [(1.0, 2.0), (4.0, 8.0), (16.0, 32.0)];

    #[test]
    fn what_grows_linearly_is_a_straight_line_from_corner_to_corner() {
        let svg = curves("t", "ms", &[diagram(vec![line("a<b", &STRAIGHT, true)])]);
        assert!(
            svg.contains("points='90.0,170.0 365.0,100.0 640.0,30.0'"),
            "{svg}"
        );
        assert!(svg.contains("a&lt;b") && svg.contains("32.0 ms"), "{svg}");
    }

    #[test]
    fn lines_that_coincide_are_told_apart() {
        let lines = vec![
            line("below", &STRAIGHT, false),
            line("ours", &STRAIGHT, true),
        ];
        let svg = curves("t", "ms", &[diagram(lines)]);
        let [solid, dashed] = ["stroke-width='2'/>", "stroke-dasharray"].map(|what| svg.find(what));
        assert!(solid.unwrap() < dashed.unwrap(), "the dashed one is on top");
        assert!(svg.contains("r='3' fill='#2a6fb0'") && svg.contains("r='5' fill='none'"));
        for name in [
            "y='34.0' fill='#2a6fb0'>ours",
            "y='48.0' fill='#c0392b'>below",
        ] {
            assert!(svg.contains(name), "{name}: {svg}");
        }
    }

    #[test]
    fn the_vertical_scale_is_the_same_in_all_diagrams() {
        let flat = [(1.0, 2.0), (16.0, 2.0)];
        let diagrams = [
            diagram(vec![line("a", &STRAIGHT, true)]),
            diagram(vec![line("b", &flat, true)]),
        ];
        let svg = curves("t", "ms", &diagrams);
        assert!(svg.contains("points='90.0,170.0 640.0,170.0'"), "{svg}");
        assert_eq!(svg.matches("32.0 ms").count(), 2);
        assert!(svg.contains("the same in all diagrams"));
    }

    #[test]
    fn one_point_alone_is_drawn_somewhere() {
        let only = line("l", &[(3.0, 3.0)], false);
        let diagram = Diagram {
            title: String::new(),
            ticks: Vec::new(),
            lines: vec![only],
        };
        assert!(curves("t", "ms", &[diagram]).contains("cx='90.0' cy='170.0'"));
    }
}
