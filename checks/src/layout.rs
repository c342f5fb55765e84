//! Lays a graph out in layers: each node stands above all that it points to.
//!
//! An edge over several layers gets a waypoint in each layer between, so that it passes beside the
//! boxes there. The order within a layer is the one with the fewest crossings that a few sweeps
//! find. The same graph always gets the same layout.

use std::collections::{BTreeMap, BTreeSet};

use crate::edges::Edges;

/// Where everything is, in pixels; y grows downwards.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Layout {
    /// The width of the whole.
    pub width: f64,
    /// The height of the whole.
    pub height: f64,
    /// The boxes.
    pub nodes: Vec<Node>,
    /// The edges, as points from the lower side of a box to the upper side of another one.
    pub edges: Vec<Vec<(f64, f64)>>,
}

/// A box.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::exhaustive_structs, reason = "plain data")]
pub struct Node {
    /// The name of the crate.
    pub name: String,
    /// The centre.
    pub x: f64,
    /// The upper side.
    pub top: f64,
}

/// The width of a box.
pub const BOX_WIDTH: f64 = 132.0;
/// The height of a box.
pub const BOX_HEIGHT: f64 = 32.0;

const LAYER_STEP: f64 = 82.0;
const MARGIN: f64 = 16.0;
const GAP: f64 = 22.0;
/// The room that a waypoint takes in its layer.
const WAYPOINT_WIDTH: f64 = 10.0;
const SWEEPS: usize = 24;

/// A place in a layer: a box, or the waypoint of an edge.
#[derive(Clone, Debug)]
struct Place {
    name: Option<String>,
    layer: usize,
    above: Vec<usize>,
    below: Vec<usize>,
}

/// Leaves out each edge that a longer way says as well, and each crate that no edge touches.
#[must_use]
pub fn reduced(edges: &Edges) -> Edges {
    let own = |names: &BTreeSet<String>| -> BTreeSet<String> {
        let own = names.iter().filter(|name| edges.contains_key(*name));
        own.cloned().collect()
    };
    let direct: Edges = edges
        .iter()
        .map(|(name, to)| (name.clone(), own(to)))
        .collect();
    let reach = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![from.to_owned()];
        while let Some(name) = todo.pop() {
            for next in direct.get(&name).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    todo.push(next.clone());
                }
            }
        }
        seen
    };
    let is_direct = |name: &String, to: &BTreeSet<String>| {
        !to.iter()
            .any(|other| other != name && reach(other).contains(name))
    };
    let mut kept: Edges = direct
        .iter()
        .map(|(name, to)| {
            let to_kept = to.iter().filter(|one| is_direct(one, to)).cloned();
            (name.clone(), to_kept.collect())
        })
        .collect();
    let used: BTreeSet<String> = kept.values().flatten().cloned().collect();
    kept.retain(|name, to| !to.is_empty() || used.contains(name));
    kept
}

/// Lays the graph out. Edges must have no circle, as cargo ensures.
#[must_use]
pub fn layout(edges: &Edges) -> Layout {
    let (places, layers, routes) = places(edges);
    let layers = ordered(&places, layers);
    let xs = coordinates(&places, &layers);
    let width = xs.iter().zip(&places).fold(0.0_f64, |most, (x, place)| {
        most.max(x + place_width(place) / 2.0)
    });
    let last_layer = layers.len().saturating_sub(1);
    let top = |layer: usize| MARGIN + as_f64(last_layer.saturating_sub(layer)) * LAYER_STEP;
    let mut nodes = Vec::new();
    for (place, x) in places.iter().zip(&xs) {
        let Some(name) = place.name.clone() else {
            continue;
        };
        let (x, top) = (*x, top(place.layer));
        nodes.push(Node { name, x, top });
    }
    let point = |index: usize| {
        let x = xs.get(index).copied().unwrap_or_default();
        let layer = places.get(index).map_or(0, |place| place.layer);
        (x, top(layer))
    };
    let edges = routes.iter().map(|route| drawn(route, &point)).collect();
    let height = top(0) + BOX_HEIGHT + MARGIN;
    Layout {
        width: width + MARGIN,
        height,
        nodes,
        edges,
    }
}

/// The points of an edge: the side of its box, two for each waypoint, the side of the other box.
fn drawn(route: &[usize], point: &impl Fn(usize) -> (f64, f64)) -> Vec<(f64, f64)> {
    let mut points = Vec::new();
    let last = route.len().saturating_sub(1);
    for (at, index) in route.iter().enumerate() {
        let (x, top) = point(*index);
        if at > 0 {
            points.push((x, top));
        }
        if at < last {
            points.push((x, top + BOX_HEIGHT));
        }
    }
    points
}

type Placed = (Vec<Place>, Vec<Vec<usize>>, Vec<Vec<usize>>);

/// The places, the layers from the lowest up, and the way of each edge from place to place.
fn places(edges: &Edges) -> Placed {
    let heights = heights(edges);
    let top = heights.values().max().copied().unwrap_or(0);
    let mut places = Vec::new();
    let mut layers = vec![Vec::new(); top.saturating_add(1)];
    let mut add = |name: Option<String>, layer: usize, places: &mut Vec<Place>| {
        let index = places.len();
        places.push(Place {
            name,
            layer,
            above: Vec::new(),
            below: Vec::new(),
        });
        if let Some(in_layer) = layers.get_mut(layer) {
            in_layer.push(index);
        }
        index
    };
    let mut by_name = BTreeMap::new();
    for (name, layer) in &heights {
        by_name.insert(name.clone(), add(Some(name.clone()), *layer, &mut places));
    }
    let mut routes = Vec::new();
    for (from, to) in edges
        .iter()
        .flat_map(|(from, to)| to.iter().map(move |to| (from, to)))
    {
        let (Some(start), Some(end)) = (by_name.get(from), by_name.get(to)) else {
            continue;
        };
        let mut route = vec![*start];
        let (high, low) = (heights.get(from).copied(), heights.get(to).copied());
        let between = low.unwrap_or(0).saturating_add(1)..high.unwrap_or(0);
        for layer in between.rev() {
            route.push(add(None, layer, &mut places));
        }
        route.push(*end);
        routes.push(route);
    }
    for pair in routes.iter().flat_map(|route| route.windows(2)) {
        let &[upper, lower] = pair else { continue };
        if let Some(place) = places.get_mut(upper) {
            place.below.push(lower);
        }
        if let Some(place) = places.get_mut(lower) {
            place.above.push(upper);
        }
    }
    (places, layers, routes)
}

/// How high each node stands: one layer above the highest that it points to.
fn heights(edges: &Edges) -> BTreeMap<String, usize> {
    let mut heights: BTreeMap<String, usize> = edges.keys().map(|name| (name.clone(), 0)).collect();
    // a way is at most as long as there are nodes
    for _ in edges {
        for (name, to) in edges {
            let below = to.iter().filter_map(|one| heights.get(one)).max();
            if let Some(height) = below.map(|below| below.saturating_add(1)) {
                heights.insert(name.clone(), height);
            }
        }
    }
    // a crate that uses none stands just below the lowest of its users, not at the bottom
    for name in edges
        .iter()
        .filter(|(_, to)| to.is_empty())
        .map(|(name, _)| name)
    {
        let users = edges.iter().filter(|(_, to)| to.contains(name));
        let lowest = users
            .filter_map(|(user, _)| heights.get(user).copied())
            .min();
        if let Some(height) = lowest.map(|lowest| lowest.saturating_sub(1)) {
            heights.insert(name.clone(), height);
        }
    }
    heights
}

/// The layers in the order of the fewest crossings.
fn ordered(places: &[Place], mut layers: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut best = layers.clone();
    let mut fewest = crossings(places, &layers);
    for sweep in 0..SWEEPS {
        let is_upwards = sweep % 2 == 0;
        let count = layers.len();
        let order: Vec<usize> = match is_upwards {
            true => (1..count).collect(),
            false => (0..count.saturating_sub(1)).rev().collect(),
        };
        for layer in order {
            let ranks = ranks(&layers);
            let Some(in_layer) = layers.get_mut(layer) else {
                continue;
            };
            let mean = |index: &usize| {
                let place = places.get(*index);
                let others = place.map(|place| {
                    if is_upwards {
                        &place.below
                    } else {
                        &place.above
                    }
                });
                mean_of(others.into_iter().flatten(), &ranks)
                    .or_else(|| ranks.get(index).copied())
                    .unwrap_or_default()
            };
            in_layer.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
        }
        let found = crossings(places, &layers);
        if found < fewest {
            (best, fewest) = (layers.clone(), found);
        }
    }
    best
}

/// Where in its layer each place stands, as a fraction of the layer.
fn ranks(layers: &[Vec<usize>]) -> BTreeMap<usize, f64> {
    let mut ranks = BTreeMap::new();
    for layer in layers {
        for (at, index) in layer.iter().enumerate() {
            ranks.insert(*index, (as_f64(at) + 0.5) / as_f64(layer.len()));
        }
    }
    ranks
}

fn mean_of<'a>(of: impl Iterator<Item = &'a usize>, values: &BTreeMap<usize, f64>) -> Option<f64> {
    let found: Vec<f64> = of.filter_map(|index| values.get(index).copied()).collect();
    (!found.is_empty()).then(|| found.iter().sum::<f64>() / as_f64(found.len()))
}

/// How many pairs of edges cross.
fn crossings(places: &[Place], layers: &[Vec<usize>]) -> usize {
    let ranks = ranks(layers);
    let rank = |index: &usize| ranks.get(index).copied().unwrap_or_default();
    let mut found: usize = 0;
    for layer in layers {
        let mut ends: Vec<(f64, f64)> = Vec::new();
        for index in layer {
            let below = places.get(*index).map(|place| &place.below);
            ends.extend(
                below
                    .into_iter()
                    .flatten()
                    .map(|to| (rank(index), rank(to))),
            );
        }
        for (at, (a, b)) in ends.iter().enumerate() {
            let after = ends.iter().skip(at.saturating_add(1));
            let crossing = after.filter(|(c, d)| (a < c && b > d) || (a > c && b < d));
            found = found.saturating_add(crossing.count());
        }
    }
    found
}

/// The centre of each place: near its neighbours, and not nearer than a gap to the next in the
/// layer.
fn coordinates(places: &[Place], layers: &[Vec<usize>]) -> Vec<f64> {
    let mut xs: BTreeMap<usize, f64> = BTreeMap::new();
    for layer in layers {
        for (index, x) in packed(places, layer, &BTreeMap::new()) {
            xs.insert(index, x);
        }
    }
    for sweep in 0..SWEEPS {
        let layers: Vec<&Vec<usize>> = match sweep % 2 {
            0 => layers.iter().collect(),
            _ => layers.iter().rev().collect(),
        };
        for layer in layers {
            let mut wanted = BTreeMap::new();
            for index in layer {
                let Some(place) = places.get(*index) else {
                    continue;
                };
                let neighbours = place.above.iter().chain(&place.below);
                if let Some(mean) = mean_of(neighbours, &xs) {
                    wanted.insert(*index, mean);
                }
            }
            xs.extend(packed(places, layer, &wanted));
        }
    }
    let left = |(index, x): (&usize, &f64)| x - places.get(*index).map_or(0.0, place_width) / 2.0;
    let least = xs.iter().map(left).fold(f64::INFINITY, f64::min);
    xs.values().map(|x| (x - least + MARGIN).round()).collect()
}

/// Puts each place of a layer where it is wanted, as far as its order and the gaps allow.
fn packed(places: &[Place], layer: &[usize], wanted: &BTreeMap<usize, f64>) -> Vec<(usize, f64)> {
    let half = |index: usize| places.get(index).map_or(0.0, place_width) / 2.0;
    let place = |order: &mut dyn Iterator<Item = &usize>, sign: f64| {
        let mut found = BTreeMap::new();
        let mut next = f64::NEG_INFINITY;
        for index in order {
            let least = if next.is_finite() {
                next + half(*index)
            } else {
                f64::NEG_INFINITY
            };
            let wish = wanted.get(index).map_or(least.max(0.0), |x| x * sign);
            let x = wish.max(least);
            found.insert(*index, x * sign);
            next = x + half(*index) + GAP;
        }
        found
    };
    // once pushed to the right, once to the left: the middle of both is in order, too
    let right = place(&mut layer.iter(), 1.0);
    let left = match wanted.len() == layer.len() {
        true => place(&mut layer.iter().rev(), -1.0),
        false => right.clone(),
    };
    let middle = right.iter().zip(left.values());
    middle
        .map(|((index, a), b)| (*index, f64::midpoint(*a, *b)))
        .collect()
}

const fn place_width(place: &Place) -> f64 {
    if place.name.is_some() {
        BOX_WIDTH
    } else {
        WAYPOINT_WIDTH
    }
}

/// A small count as a number of pixels' kind.
fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(text: &str) -> Edges {
        crate::edges::listed(&format!("```deps\n{text}\n```")).unwrap()
    }

    #[test]
    fn an_edge_that_a_longer_way_says_is_left_out() {
        let kept = reduced(&edges("a: b c serde\nb: c\nc:\nlone:"));
        assert_eq!(kept, edges("a: b\nb: c\nc:"));
    }

    #[test]
    fn a_node_stands_above_all_that_it_points_to_and_boxes_do_not_overlap() {
        let graph = edges("top: a b e\na: c\nb: c d\nc: f\nd: f\ne: f\nf:");
        let found = layout(&graph);
        let by_name = |name: &str| found.nodes.iter().find(|node| node.name == name).unwrap();
        for (from, to) in graph
            .iter()
            .flat_map(|(from, to)| to.iter().map(move |to| (from, to)))
        {
            assert!(by_name(from).top < by_name(to).top, "{from} -> {to}");
        }
        for (at, a) in found.nodes.iter().enumerate() {
            assert!(a.x >= BOX_WIDTH / 2.0 && a.x + BOX_WIDTH / 2.0 <= found.width);
            for b in found.nodes.iter().skip(at + 1).filter(|b| b.top == a.top) {
                assert!((a.x - b.x).abs() >= BOX_WIDTH, "{a:?} {b:?}");
            }
        }
        assert_eq!(found.edges.len(), 9);
    }

    #[test]
    fn a_long_edge_passes_each_layer_between() {
        let found = layout(&edges("a: b x\nb: c\nc: x\nx:"));
        let longest = found.edges.iter().map(Vec::len).max();
        assert_eq!(longest, Some(6), "two ends, two layers of two points");
    }
}
