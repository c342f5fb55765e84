//! Draws events below each other on a time axis.

use std::fmt::Write;

use super::{LEFT, LONGEST, ROW, WIDTH, escape, open};

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

impl Event {
    fn end_us(&self) -> f64 {
        self.start_us + self.length_us.unwrap_or(0.0)
    }

    fn color(&self) -> &'static str {
        match self.length_us {
            Some(_) if self.beside => BESIDE,
            Some(_) => STEP,
            None => MOMENT,
        }
    }
}

/// Draws events below each other, with a legend, and with a time axis below them whose marks go up
/// through all rows. The number at the end of a row is the length of a step, or the time of a
/// moment.
#[must_use]
pub fn timeline(title: &str, events: &[Event]) -> String {
    let rows = events.len().saturating_add(HEAD_ROWS);
    let height = rows.saturating_add(2).saturating_mul(ROW);
    let total = events.iter().map(Event::end_us);
    let total = total.fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open(title, height);
    draw_legend(&mut svg);
    draw_axis(&mut svg, total, rows.saturating_mul(ROW));
    for (row, event) in events.iter().enumerate() {
        let y = row.saturating_add(HEAD_ROWS).saturating_mul(ROW);
        let x = place(event.start_us, total);
        let width = (event.length_us.unwrap_or(0.0) / total * LONGEST).max(2.0);
        let time = match event.length_us {
            Some(length_us) => format!("{:.3} ms", length_us / 1000.0),
            None => format!("at {:.3} ms", event.start_us / 1000.0),
        };
        // Writing to a string does not fail.
        let _ = write!(
            svg,
            "<text x='{}' y='{}' text-anchor='end'>{}</text><rect x='{x:.1}' y='{}' width='{width:.1}' height='14' \
             fill='{}'/><text x='{}' y='{}' text-anchor='end'>{time}</text>",
            LEFT - 6,
            y.saturating_add(13),
            escape(&event.label),
            y.saturating_add(2),
            event.color(),
            WIDTH - 8,
            y.saturating_add(13),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_legend(svg: &mut String) {
    let entries = [
        (STEP, "a step of the main thread, and its length"),
        (BESIDE, "a step of another thread"),
        (MOMENT, "a moment, and its time"),
    ];
    let mut x = 8_usize;
    for (color, text) in entries {
        let _ = write!(
            svg,
            "<rect x='{x}' y='28' width='12' height='12' fill='{color}'/><text x='{}' y='38'>{text}</text>",
            x.saturating_add(17)
        );
        let width = text.len().saturating_mul(6).saturating_add(40);
        x = x.saturating_add(width);
    }
}

/// Draws the axis at `bottom`, with a mark at each multiple of a round number of milliseconds.
fn draw_axis(svg: &mut String, total_us: f64, bottom: usize) {
    let top = HEAD_ROWS.saturating_mul(ROW);
    let step_us = round_step(total_us);
    let marks = (0..).map(|count: u32| f64::from(count) * step_us);
    for at_us in marks.take_while(|at_us| *at_us <= total_us) {
        let x = place(at_us, total_us);
        let ms = format!("{:.3}", at_us / 1000.0);
        let ms = ms.trim_end_matches('0').trim_end_matches('.');
        let _ = write!(
            svg,
            "<path d='M{x:.1} {top}V{bottom}' stroke='#dddddd'/><text x='{x:.1}' y='{}' text-anchor='middle'>{ms} ms</text>",
            bottom.saturating_add(14),
        );
    }
    let _ = write!(
        svg,
        "<path d='M{LEFT} {bottom}h{LONGEST}' stroke='#888888'/>\
         <text x='{}' y='{}' text-anchor='end'>time since main</text>",
        LEFT - 24,
        bottom.saturating_add(14)
    );
}

/// Returns 1, 2 or 5 times a power of ten so that at most ten of it fit into `total`.
fn round_step(total: f64) -> f64 {
    let unit = 10_f64.powf((total / 10.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|count| count * unit);
    let fits = steps.into_iter().find(|step| total / step <= 10.0);
    fits.unwrap_or(total)
}

fn place(at_us: f64, total_us: f64) -> f64 {
    f64::from(LEFT) + at_us / total_us * LONGEST
}

const STEP: &str = "#2a6fb0";
const BESIDE: &str = "#b9c4cf";
const MOMENT: &str = "#c0392b";
/// Rows for the title and the legend.
const HEAD_ROWS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(start_us: f64, length_us: Option<f64>) -> Event {
        Event {
            label: "e".into(),
            start_us,
            length_us,
            beside: false,
        }
    }

    #[test]
    fn events_lie_where_they_are_in_time() {
        let svg = timeline("t", &[event(0.0, Some(500.0)), event(1000.0, None)]);
        assert!(
            svg.contains("x='190.0'") && svg.contains("width='235.0'"),
            "{svg}"
        );
        assert!(
            svg.contains("x='660.0'") && svg.contains("at 1.000 ms") && svg.contains(">0.500 ms"),
            "{svg}"
        );
    }

    #[test]
    fn an_axis_has_marks_at_round_times_and_a_legend_explains_the_colours() {
        let svg = timeline("t", &[event(0.0, Some(2500.0))]);
        for mark in [
            ">0 ms<",
            ">0.5 ms<",
            ">1 ms<",
            ">2.5 ms<",
            "time since main",
        ] {
            assert!(svg.contains(mark), "{mark}: {svg}");
        }
        for color in [STEP, BESIDE, MOMENT] {
            assert!(svg.contains(&format!("fill='{color}'/><text")), "{color}");
        }
        for (total, step) in [
            (9.0, 1.0),
            (10.0, 1.0),
            (11.0, 2.0),
            (2100.0, 500.0),
            (0.3, 0.05),
        ] {
            assert!((round_step(total) - step).abs() < 1e-9, "{total}");
        }
    }
}
