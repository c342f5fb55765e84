//! Draws charts as SVG, without a plotting library and its dependencies.

mod curves;
mod timeline;

use std::fmt::Write;

pub use curves::{Diagram, Line, curves};
pub use timeline::{Event, timeline};

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

/// Draws groups of bars, each group under its title and with its own scale, which a line says.
#[must_use]
pub fn bars(title: &str, unit: &str, groups: &[(String, Vec<Bar>)]) -> String {
    let rows: usize = groups
        .iter()
        .map(|(_, bars)| bars.len().saturating_add(2))
        .sum();
    let height = rows.saturating_mul(ROW).saturating_add(3 * ROW);
    let mut svg = open(title, height);
    // Writing to a string does not fail.
    let _ = write!(
        svg,
        "<text x='8' y='38' fill='#555555'>Each group has its own scale: its longest bar has the full length.</text>"
    );
    let mut y = 3 * ROW;
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

/// Begins a picture with its title.
fn open(title: &str, height: usize) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' font-size='12'>\
         <rect width='{WIDTH}' height='{height}' fill='white'/><text x='8' y='20' font-size='15'>{}</text>",
        escape(title)
    )
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(svg.contains("Each group has its own scale"));
        assert!(svg.contains("a &lt; b") && svg.contains("x&amp;y"));
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
