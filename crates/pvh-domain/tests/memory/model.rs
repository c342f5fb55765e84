//! Any sequence of calls does what a simple model of the layout says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::machine::{
    DECREASE, GMFN, GRANT_TABLE, HOLE, MAX_PAGES, Machine, PAGES, POPULATE, SHARED_INFO,
};

/// Less than others have: the memory is made anew for each sequence.
const RAM_FRAMES: u64 = 0x18;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Page {
    SharedInfo,
    Grant(u64),
    /// RAM, with the byte it begins with.
    Ram(u8),
}

/// What is where. Frames below 8 hold the calls' arguments and stay as they are.
struct Model {
    frames: BTreeMap<u64, Page>,
    shared_info: u8,
    grants: [u8; 4],
    pages: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    SharedInfo(u64),
    Grant(u64, u64),
    Move(u64, u64),
    Remove(u64),
    Decrease(u64),
    Populate(u64),
    Write(u64, u8),
}

impl Model {
    fn new() -> Self {
        Self {
            frames: (0..RAM_FRAMES).map(|gfn| (gfn, Page::Ram(0))).collect(),
            shared_info: 0,
            grants: [0; 4],
            pages: PAGES,
        }
    }

    fn holes_in_use(&self) -> usize {
        self.frames.range(RAM_FRAMES..).count()
    }

    /// Puts a page at a frame, from where it was; the answer is the call's.
    fn put(&mut self, page: Page, gfn: u64) -> i64 {
        let before = self
            .frames
            .iter()
            .find(|(_, there)| **there == page)
            .map(|(gfn, _)| *gfn);
        let before = before.filter(|_| !matches!(page, Page::Ram(_)));
        self.put_from(page, before, gfn)
    }

    fn put_from(&mut self, page: Page, before: Option<u64>, gfn: u64) -> i64 {
        if before == Some(gfn) {
            return 0;
        }
        if gfn >= RAM_FRAMES && !self.frames.contains_key(&gfn) && self.holes_in_use() == 8 {
            return -12;
        }
        if let Some(Page::Ram(_)) = self.frames.insert(gfn, page) {
            self.pages -= 1;
        }
        if let Some(before) = before {
            self.frames.remove(&before);
        }
        0
    }

    fn step(&mut self, step: Step) -> i64 {
        match step {
            Step::SharedInfo(gfn) => self.put(Page::SharedInfo, gfn),
            Step::Grant(index, gfn) if index < 4 => self.put(Page::Grant(index), gfn),
            Step::Grant(..) => -22,
            Step::Move(from, to) => match self.frames.get(&from) {
                Some(&page) => self.put_from(page, Some(from), to),
                None => -22,
            },
            Step::Remove(gfn) => match self.frames.remove(&gfn) {
                Some(_) => 0,
                None => -2,
            },
            Step::Decrease(gfn) => {
                let page = self.frames.remove(&gfn);
                self.pages -= u64::from(matches!(page, Some(Page::Ram(_))));
                page.is_some().into()
            }
            Step::Populate(gfn) => {
                let is_full = gfn >= RAM_FRAMES
                    && !self.frames.contains_key(&gfn)
                    && self.holes_in_use() == 8;
                if self.pages == MAX_PAGES || is_full {
                    return 0;
                }
                self.frames.insert(gfn, Page::Ram(0));
                self.pages += 1;
                1
            }
            Step::Write(gfn, byte) => {
                match self.frames.get_mut(&gfn) {
                    Some(Page::SharedInfo) => self.shared_info = byte,
                    Some(Page::Grant(index)) => {
                        self.grants[usize::try_from(*index).unwrap()] = byte;
                    }
                    Some(Page::Ram(there)) => *there = byte,
                    None => return -1,
                }
                0
            }
        }
    }

    fn byte(&self, gfn: u64) -> Option<u8> {
        self.frames.get(&gfn).map(|page| match page {
            Page::SharedInfo => self.shared_info,
            Page::Grant(index) => self.grants[usize::try_from(*index).unwrap()],
            Page::Ram(byte) => *byte,
        })
    }
}

fn make(machine: &mut Machine, step: Step) -> i64 {
    match step {
        Step::SharedInfo(gfn) => machine.add(SHARED_INFO, 0, gfn),
        Step::Grant(index, gfn) => machine.add(GRANT_TABLE, index, gfn),
        Step::Move(from, to) => machine.add(GMFN, from, to),
        Step::Remove(gfn) => machine.remove(gfn),
        Step::Decrease(gfn) => machine.extents(DECREASE, 0, &[gfn]),
        Step::Populate(gfn) => machine.extents(POPULATE, 0, &[gfn]),
        Step::Write(gfn, byte) if machine.has_page(gfn) => {
            machine.put_byte(gfn, byte);
            0
        }
        Step::Write(..) => -1,
    }
}

/// Few frames, so that steps meet; both sides of the end of RAM.
fn gfn() -> impl Strategy<Value = u64> {
    prop_oneof![
        0x10..0x16_u64,
        RAM_FRAMES - 2..RAM_FRAMES + 4,
        HOLE..HOLE + 10
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        gfn().prop_map(Step::SharedInfo),
        (0..5_u64, gfn()).prop_map(|(index, gfn)| Step::Grant(index, gfn)),
        (gfn(), gfn()).prop_map(|(from, to)| Step::Move(from, to)),
        gfn().prop_map(Step::Remove),
        gfn().prop_map(Step::Decrease),
        gfn().prop_map(Step::Populate),
        (gfn(), 1..=255_u8).prop_map(|(gfn, byte)| Step::Write(gfn, byte)),
    ]
}

proptest! {
    #[test]
    fn the_layout_is_as_a_simple_model_has_it(steps in prop::collection::vec(step(), 1..80)) {
        let mut machine = Machine::with_ram(RAM_FRAMES);
        let mut model = Model::new();
        for step in steps {
            let want = model.step(step);
            prop_assert_eq!(make(&mut machine, step), want, "{:?}", step);
            prop_assert_eq!(machine.ops.pages(), model.pages, "{:?}", step);
        }
        let frames = (0x10..0x16).chain(RAM_FRAMES - 2..RAM_FRAMES + 4).chain(HOLE..HOLE + 10);
        for gfn in frames {
            let byte = machine.has_page(gfn).then(|| machine.byte(gfn));
            prop_assert_eq!(byte, model.byte(gfn), "frame {:#x}", gfn);
        }
        let place = |page| model.frames.iter().find(|(_, there)| **there == page).map(|(gfn, _)| *gfn);
        prop_assert_eq!(machine.shared_info_gfn(), place(Page::SharedInfo));
        for (index, gfn) in (0..).zip(machine.grant_gfns()) {
            prop_assert_eq!(Some(gfn).filter(|&gfn| gfn != u64::MAX), place(Page::Grant(index)));
        }
    }
}
