//! The tree below `data` as a map of paths.

use std::collections::{BTreeMap, BTreeSet};

/// A node: its value, and whether the other guest may read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Node {
    pub(super) value: Vec<u8>,
    pub(super) is_open: bool,
    /// Grows from node to node: children are listed in the order in which they were made.
    made: u64,
}

type Tree = BTreeMap<String, Node>;

/// What a guest sees of the store, and one transaction that the oracle uses; others are open and
/// idle.
#[derive(Debug)]
pub(super) struct Model {
    tree: Tree,
    /// By node and token: what a told path begins with.
    watches: BTreeMap<(String, String), &'static str>,
    transactions: Vec<Transaction>,
    made: u64,
}

/// A request that changes the tree.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(String, Vec<u8>),
    Make(String),
    Remove(String),
    Share(String, bool),
}

#[derive(Debug)]
struct Transaction {
    id: u32,
    view: Tree,
    log: Vec<Change>,
    is_doomed: bool,
    /// Something outside has changed since it began.
    is_behind: bool,
    /// The nodes that it has looked at, in their order; a node may be there twice.
    touched: Vec<String>,
    /// The nodes that its commit tells of, and whether they changed by themselves.
    fired: BTreeMap<String, bool>,
}

/// Changed nodes, and whether they changed by themselves or went away with a node above.
pub(super) type Changes = Vec<(String, bool)>;

impl Model {
    pub(super) fn new() -> Self {
        Self {
            tree: Tree::from([("data".into(), Node::default())]),
            watches: BTreeMap::new(),
            transactions: Vec::new(),
            made: 0,
        }
    }

    /// The transaction that is used: the one begun last.
    pub(super) fn transaction(&self) -> Option<u32> {
        self.transactions.last().map(|tx| tx.id)
    }

    pub(super) fn open(&self) -> usize {
        self.transactions.len()
    }

    pub(super) fn knows(&self, tx: u32) -> bool {
        tx == 0 || self.transaction() == Some(tx)
    }

    pub(super) fn is_behind(&self) -> bool {
        self.transactions.last().is_some_and(|tx| tx.is_behind)
    }

    /// A change of the transaction was refused for want of room.
    pub(super) fn is_doomed(&self) -> bool {
        self.transactions.last().is_some_and(|tx| tx.is_doomed)
    }

    pub(super) fn start(&mut self, id: u32) {
        self.transactions.push(Transaction {
            id,
            view: self.tree.clone(),
            log: Vec::new(),
            is_doomed: false,
            is_behind: false,
            touched: Vec::new(),
            fired: BTreeMap::new(),
        });
    }

    /// Ends the transaction; whatever it touched has not changed outside, so its changes go on top.
    pub(super) fn end(&mut self, is_commit: bool) {
        let Some(tx) = self.transactions.pop() else {
            return;
        };
        if is_commit {
            for change in tx.log {
                self.change(&change);
            }
            for other in &mut self.transactions {
                other.is_behind = true;
            }
        }
    }

    pub(super) fn doom(&mut self, tx: u32) {
        if let Some(last) = self.transactions.last_mut()
            && last.id == tx
        {
            last.is_doomed = true;
        }
    }

    /// Applies a change to the tree, or to a transaction's view, and tells whether it is allowed.
    pub(super) fn apply(&mut self, tx: u32, change: Change) -> bool {
        if tx == 0 {
            let is_fine = self.change(&change);
            for other in &mut self.transactions {
                other.is_behind |= is_fine;
            }
            return is_fine;
        }
        self.swap_view();
        let fired = self.fired(&change);
        let is_fine = self.change(&change);
        self.swap_view();
        if let Some(last) = self.transactions.last_mut() {
            last.log.push(change);
            for (path, by_itself) in fired.into_iter().filter(|_| is_fine) {
                *last.fired.entry(path).or_default() |= by_itself;
            }
        }
        is_fine
    }

    fn swap_view(&mut self) {
        if let Some(last) = self.transactions.last_mut() {
            std::mem::swap(&mut last.view, &mut self.tree);
        }
    }

    fn change(&mut self, change: &Change) -> bool {
        match change {
            Change::Write(path, value) => self.write(path, value),
            Change::Make(path) => self.make(path),
            Change::Remove(path) => self.remove(path),
            Change::Share(path, is_open) => self.share(path, *is_open),
        }
    }

    fn write(&mut self, path: &str, value: &[u8]) -> bool {
        self.make(path);
        if let Some(node) = self.tree.get_mut(path) {
            node.value = value.to_vec();
        }
        true
    }

    /// Makes a node and those above it; a new one is as open as the one above.
    fn make(&mut self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let mut is_open = false;
        for end in ends.chain([path.len()]) {
            self.made += 1;
            let fresh = Node {
                value: Vec::new(),
                is_open,
                made: self.made,
            };
            let node = self.tree.entry(path[..end].to_owned()).or_insert(fresh);
            is_open = node.is_open;
        }
        true
    }

    /// Removes a node and all below; one that is not there is fine if the one above is.
    fn remove(&mut self, path: &str) -> bool {
        for gone in self.below(path) {
            self.tree.remove(&gone);
        }
        match path.rsplit_once('/') {
            Some((above, _)) => self.tree.contains_key(above),
            None => true,
        }
    }

    fn share(&mut self, path: &str, is_open: bool) -> bool {
        let node = self.tree.get_mut(path);
        node.map(|node| node.is_open = is_open).is_some()
    }

    /// What a request looks at before it changes anything.
    pub(super) fn touch_for(&mut self, tx: u32, change: &Change) {
        let path = match change {
            Change::Write(path, _) | Change::Make(path) | Change::Share(path, _) => {
                return self.touch(tx, path);
            }
            Change::Remove(path) => path,
        };
        self.touch(tx, path);
        let nodes = Self::in_order(self.seen(tx), path);
        if let Some((above, _)) = path.rsplit_once('/') {
            self.touch(tx, above);
        }
        for node in nodes {
            self.touch(tx, &node);
        }
    }

    /// A node is looked at in a transaction; if it is not there, those above are until one is.
    pub(super) fn touch(&mut self, tx: u32, path: &str) {
        let Some(last) = self.transactions.last_mut().filter(|last| last.id == tx) else {
            return;
        };
        let ends = path.match_indices('/').map(|(end, _)| end);
        let above = ends.rev().map(|end| &path[..end]);
        for node in std::iter::once(path).chain(above) {
            last.touched.push(node.to_owned());
            if last.view.contains_key(node) {
                break;
            }
        }
    }

    /// What a change tells of, in a tree that has not changed yet.
    fn fired(&self, change: &Change) -> Changes {
        match change {
            Change::Write(path, _) | Change::Share(path, _) => vec![(path.clone(), true)],
            Change::Make(path) if self.tree.contains_key(path) => Vec::new(),
            Change::Make(path) => vec![(path.clone(), true)],
            Change::Remove(path) => self.removals(path),
        }
    }

    /// The nodes that go away with a node, children first.
    pub(super) fn removals(&self, path: &str) -> Changes {
        let mut gone = Vec::new();
        for child in sorted_children(&self.tree, path) {
            let below = self.removals(&child).into_iter();
            gone.extend(below.map(|(node, _)| (node, false)));
        }
        if self.tree.contains_key(path) {
            gone.push((path.to_owned(), true));
        }
        gone
    }

    /// A node and all below, each before its children.
    fn in_order(tree: &Tree, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        if tree.contains_key(path) {
            found.push(path.to_owned());
        }
        for child in sorted_children(tree, path) {
            found.extend(Self::in_order(tree, &child));
        }
        found
    }

    /// What a commit tells of, in the order in which its nodes were first looked at; and the part
    /// of it that a guest is told, too: not nodes that are there neither before nor after it.
    pub(super) fn committed(&self) -> (Changes, Changes) {
        let Some(last) = self.transactions.last() else {
            return (Vec::new(), Vec::new());
        };
        let mut all = Changes::new();
        for path in &last.touched {
            if let Some(&by_itself) = last.fired.get(path)
                && all.iter().all(|(node, _)| node != path)
            {
                all.push((path.clone(), by_itself));
            }
        }
        let is_seen = |path: &String| self.tree.contains_key(path) || last.view.contains_key(path);
        let seen = all.iter().filter(|(path, _)| is_seen(path));
        let seen = seen.cloned().collect();
        (all, seen)
    }

    /// A node and all below.
    pub(super) fn below(&self, path: &str) -> Vec<String> {
        let prefix = format!("{path}/");
        let nodes = self.tree.keys();
        nodes
            .filter(|node| *node == path || node.starts_with(&prefix))
            .cloned()
            .collect()
    }

    fn seen(&self, tx: u32) -> &Tree {
        let last = self.transactions.last();
        last.filter(|last| last.id == tx)
            .map_or(&self.tree, |last| &last.view)
    }

    pub(super) fn has(&self, tx: u32, path: &str) -> bool {
        self.seen(tx).contains_key(path)
    }

    pub(super) fn value(&self, tx: u32, path: &str) -> Option<Vec<u8>> {
        self.seen(tx).get(path).map(|node| node.value.clone())
    }

    /// The names of a node's children, each with a NUL, sorted.
    pub(super) fn children(&self, tx: u32, path: &str) -> Option<Vec<u8>> {
        let tree = self.seen(tx);
        tree.get(path)?;
        let names = tree.keys().filter_map(|key| {
            let name = key.strip_prefix(path)?.strip_prefix('/')?;
            (!name.contains('/')).then(|| format!("{name}\0"))
        });
        Some(names.collect::<String>().into_bytes())
    }

    /// How many nodes the transaction has looked at.
    pub(super) fn touched(&self) -> usize {
        let touched = self.transactions.last().map(|tx| tx.touched.iter());
        touched.map_or(0, |all| all.collect::<BTreeSet<_>>().len())
    }

    pub(super) fn is_open(&self, path: &str) -> bool {
        self.tree.get(path).is_some_and(|node| node.is_open)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.tree.iter()
    }

    /// A relative path and an absolute one name the same node.
    pub(super) fn watch(&mut self, path: &str, token: &str) -> bool {
        let (prefix, node) = split(path);
        let key = (node.to_owned(), token.to_owned());
        self.watches.insert(key, prefix).is_none()
    }

    pub(super) fn has_watch(&self, path: &str, token: &str) -> bool {
        let (_, node) = split(path);
        self.watches
            .contains_key(&(node.to_owned(), token.to_owned()))
    }

    pub(super) fn unwatch(&mut self, path: &str, token: &str) -> bool {
        let (_, node) = split(path);
        let key = (node.to_owned(), token.to_owned());
        self.watches.remove(&key).is_some()
    }

    pub(super) fn watches(&self) -> usize {
        self.watches.len()
    }

    /// The events of changed nodes: a watch hears of its own node, and of one below if that changed
    /// by itself.
    pub(super) fn told(&self, changes: &[(String, bool)]) -> BTreeSet<(String, String)> {
        let mut told = BTreeSet::new();
        for ((node, token), prefix) in &self.watches {
            for (path, by_itself) in changes {
                let is_below = path
                    .strip_prefix(node.as_str())
                    .is_some_and(|rest| rest.starts_with('/'));
                if path == node || (is_below && *by_itself) {
                    told.insert((format!("{prefix}{path}"), token.clone()));
                }
            }
        }
        told
    }
}

/// The paths of a node's children, in the order in which they were made.
fn sorted_children(tree: &Tree, path: &str) -> Vec<String> {
    let is_child = |key: &str| {
        let name = key
            .strip_prefix(path)
            .and_then(|rest| rest.strip_prefix('/'));
        name.is_some_and(|name| !name.contains('/'))
    };
    let mut children: Vec<_> = tree.iter().filter(|(key, _)| is_child(key)).collect();
    children.sort_unstable_by_key(|(_, node)| node.made);
    children.into_iter().map(|(key, _)| key.clone()).collect()
}

/// How the path of a watch begins, and its node.
fn split(path: &str) -> (&'static str, &str) {
    const HOME: &str = "/local/domain/1/";
    match path.strip_prefix(HOME) {
        Some(node) => (HOME, node),
        None => ("", path),
    }
}
