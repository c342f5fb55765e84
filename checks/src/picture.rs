//! Draws the dependency edges between the workspace's own crates as an SVG.
//!
//! A crate stands above the crates that it uses. An arrow is left out if other arrows lead to the
//! same crate. The crates that make up `pvh-vmm` have solid borders; the others have dashed ones.

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
};

use crate::{
    edges::Edges,
    layout::{BOX_HEIGHT, BOX_WIDTH, Layout, Node, layout, reduced},
};

/// The file that the picture is in.
pub const PICTURE: &str = "docs/architecture.svg";

/// The program that all product crates end in.
const PRODUCT: &str = "pvh-vmm";

const LEGEND_HEIGHT: f64 = 34.0;

/// Draws the edges.
#[must_use]
pub fn draw(edges: &Edges) -> String {
    let product = reached(edges, PRODUCT);
    let found = layout(&reduced(edges));
    let mut svg = String::new();
    // a String takes whatever is written
    let _never_fails = write(&mut svg, &found, &product);
    svg
}

/// The crates that `from` uses, directly or not, and itself.
fn reached(edges: &Edges, from: &str) -> BTreeSet<String> {
    let mut seen = BTreeSet::from([from.to_owned()]);
    let mut todo = vec![from.to_owned()];
    while let Some(name) = todo.pop() {
        for next in edges.get(&name).into_iter().flatten() {
            if edges.contains_key(next) && seen.insert(next.clone()) {
                todo.push(next.clone());
            }
        }
    }
    seen
}

fn write(svg: &mut String, found: &Layout, product: &BTreeSet<String>) -> fmt::Result {
    let (width, height) = (found.width, found.height + LEGEND_HEIGHT);
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="Which crate uses which">"#
    )?;
    svg.push_str(STYLE);
    for points in &found.edges {
        writeln!(
            svg,
            r#"<path class="edge" d="{}" marker-end="url(#head)"/>"#,
            path(points)
        )?;
    }
    for node in &found.nodes {
        write_node(svg, node, product.contains(&node.name))?;
    }
    let y = found.height + 14.0;
    writeln!(
        svg,
        r#"<text class="legend" x="16" y="{y}">An arrow points to a crate that is used; arrows that follow from others are left out. Dashed: not part of pvh-vmm.</text>"#
    )?;
    svg.push_str("</svg>\n");
    Ok(())
}

fn write_node(svg: &mut String, node: &Node, is_product: bool) -> fmt::Result {
    let (x, y) = (node.x - BOX_WIDTH / 2.0, node.top);
    let kind = if is_product { "crate" } else { "crate other" };
    writeln!(
        svg,
        r#"<rect class="{kind}" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>"#
    )?;
    let (x, y) = (node.x, node.top + BOX_HEIGHT / 2.0 + 5.0);
    writeln!(
        svg,
        r#"<text class="name" x="{x}" y="{y}">{}</text>"#,
        node.name
    )
}

/// A line that is vertical at each point: straight through a layer, a curve between two.
fn path(points: &[(f64, f64)]) -> String {
    let mut text = String::new();
    for (at, pair) in points.windows(2).enumerate() {
        let &[(x0, y0), (x1, y1)] = pair else {
            continue;
        };
        if at == 0 {
            text.push_str(&format!("M{x0} {y0}"));
        }
        // room for the arrow's head
        let end = if at.saturating_add(2) == points.len() {
            y1 - 2.0
        } else {
            y1
        };
        let middle = f64::midpoint(y0, y1);
        text.push_str(&match x0 == x1 {
            true => format!("V{end}"),
            false => format!("C{x0} {middle} {x1} {middle} {x1} {end}"),
        });
    }
    text
}

/// Colours for a light page and for a dark one.
const STYLE: &str = r##"<style>
.crate { fill: #eef3fb; stroke: #4a6fa5; stroke-width: 1.4 }
.other { fill: none; stroke: #77777f; stroke-dasharray: 5 4 }
.edge { fill: none; stroke: #77777f; stroke-width: 1.3 }
.head { fill: #77777f }
.name { fill: #1c2733; font: 13px ui-monospace, monospace; text-anchor: middle }
.legend { fill: #55555c; font: 12px sans-serif }
@media (prefers-color-scheme: dark) {
.crate { fill: #1d2a3d; stroke: #7fa6dd }
.other { fill: none; stroke: #9a9aa3 }
.edge { stroke: #9a9aa3 }
.head { fill: #9a9aa3 }
.name { fill: #e6edf5 }
.legend { fill: #b0b0b8 }
}
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="head" d="M0 0L8 4L0 8z"/></marker></defs>
"##;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_each_crate_once_and_says_which_are_not_in_the_product() {
        let edges = crate::edges::listed("```deps\npvh-vmm: a\na: libc\nkit: a\n```").unwrap();
        let svg = draw(&edges);
        assert_eq!(svg.matches("<rect").count(), 3);
        assert_eq!(svg.matches(r#"class="crate other""#).count(), 1);
        assert_eq!(svg.matches("marker-end").count(), 2);
        assert!(!svg.contains("libc"));
        assert_eq!(svg, draw(&edges), "the same edges give the same picture");
    }
}
