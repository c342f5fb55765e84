//! A real-time clock (MC146818) from which a guest can read the date.
//!
//! It shows a time in UTC. It never updates while a guest reads, so the
//! update-in-progress bit is always 0, and it raises no interrupt: the guest cannot enable one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock, and the 128 bytes of memory it is a part of.
#[derive(Debug)]
pub struct Rtc {
    index: u8,
    cmos: [u8; 128],
    /// Reads the host's clock: the time since 1970.
    now: fn() -> Duration,
    /// The time that the registers show, while it is young.
    shown: Option<Duration>,
}

impl Default for Rtc {
    fn default() -> Self {
        Self::new()
    }
}

impl Rtc {
    /// A clock that shows the host's time, in UTC.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(|| {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
        })
    }

    /// A clock that shows the time that `now` returns, counted from the start of 1970 in UTC.
    #[must_use]
    pub fn with_clock(now: fn() -> Duration) -> Self {
        let mut cmos = [0; 128];
        cmos[STATUS_B] = HOURS_24;
        Self {
            index: 0,
            cmos,
            now,
            shown: None,
        }
    }

    /// Reads the port at `offset`: the data port, since the index port cannot be read.
    pub fn read(&mut self, offset: u8) -> u8 {
        if offset != DATA {
            return 0xFF;
        }
        let register = usize::from(self.index);
        match register {
            SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR | CENTURY => {
                let time = self.time();
                self.encoded(register, Date::of(time))
            }
            STATUS_A => {
                // A guest looks here before it reads the date.
                self.shown = Some((self.now)());
                DIVIDER_32_KHZ
            }
            STATUS_C => 0,
            STATUS_D => VALID,
            _ => self.cmos.get(register).copied().unwrap_or(0),
        }
    }

    /// Writes the port at `offset`. The date cannot be set.
    pub fn write(&mut self, offset: u8, byte: u8) {
        if offset != DATA {
            // Bit 7 masks NMIs on a PC.
            self.index = byte & 0x7F;
            return;
        }
        let register = usize::from(self.index);
        let byte = match register {
            STATUS_A | STATUS_C | STATUS_D => return,
            STATUS_B => byte & (FREEZE | BINARY | HOURS_24),
            _ => byte,
        };
        if let Some(place) = self.cmos.get_mut(register) {
            *place = byte;
        }
    }

    /// Returns the time that the registers show. It stands still for a moment, so that registers
    /// that a guest reads one after the other belong together.
    fn time(&mut self) -> Duration {
        let now = (self.now)();
        let young = self.shown.filter(|&shown| {
            let age = now.checked_sub(shown);
            age.is_some_and(|age| age < SHOWN_FOR)
        });
        *self.shown.insert(young.unwrap_or(now))
    }

    /// Returns a register of the date in the form that status register B says.
    fn encoded(&self, register: usize, date: Date) -> u8 {
        let status = self.cmos[STATUS_B];
        let number = |value: u8| {
            if status & BINARY != 0 {
                value
            } else {
                ((value / 10) << 4) | (value % 10)
            }
        };
        match register {
            SECONDS => number(date.second),
            MINUTES => number(date.minute),
            HOURS if status & HOURS_24 == 0 => {
                let hour = match date.hour % 12 {
                    0 => 12,
                    hour => hour,
                };
                let afternoon = if date.hour >= 12 { AFTERNOON } else { 0 };
                number(hour) | afternoon
            }
            HOURS => number(date.hour),
            WEEKDAY => number(date.weekday),
            DAY => number(date.day),
            MONTH => number(date.month),
            YEAR => number(date.year),
            _ => number(date.century),
        }
    }
}

/// A date and time of day, as the registers divide it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Date {
    century: u8,
    /// 0 to 99.
    year: u8,
    /// 1 to 12.
    month: u8,
    /// 1 to 31.
    day: u8,
    /// 1 is Sunday.
    weekday: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Date {
    /// Returns the date in the Gregorian calendar, in UTC.
    fn of(since_1970: Duration) -> Self {
        let seconds = since_1970.as_secs().min(LAST_SECOND);
        let (days, second_of_day) = (seconds / DAY_S, seconds % DAY_S);
        let (mut year, mut day) = (1970_u64, days);
        while day >= year_days(year) {
            day = day.saturating_sub(year_days(year));
            year = year.saturating_add(1);
        }
        let mut month = 1;
        while day >= month_days(year, month) {
            day = day.saturating_sub(month_days(year, month));
            month = month.saturating_add(1);
        }
        // Each is below 100.
        let byte = |number: u64| u8::try_from(number).unwrap_or(0);
        Self {
            century: byte(year / 100),
            year: byte(year % 100),
            month,
            day: byte(day.saturating_add(1)),
            // 1 January 1970 was a Thursday.
            weekday: byte((days.saturating_add(4) % 7).saturating_add(1)),
            hour: byte(second_of_day / 3600),
            minute: byte(second_of_day / 60 % 60),
            second: byte(second_of_day % 60),
        }
    }
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn year_days(year: u64) -> u64 {
    if is_leap(year) { 366 } else { 365 }
}

const fn month_days(year: u64, month: u8) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Offset of the data port.
const DATA: u8 = 1;

const SECONDS: usize = 0x00;
const MINUTES: usize = 0x02;
const HOURS: usize = 0x04;
const WEEKDAY: usize = 0x06;
const DAY: usize = 0x07;
const MONTH: usize = 0x08;
const YEAR: usize = 0x09;
const STATUS_A: usize = 0x0A;
const STATUS_B: usize = 0x0B;
const STATUS_C: usize = 0x0C;
const STATUS_D: usize = 0x0D;
/// The register that the FADT names for the century, as on PCs.
const CENTURY: usize = 0x32;

/// Status A: a time base of 32.768 kHz and the usual rate; no update in progress.
const DIVIDER_32_KHZ: u8 = 0x26;
/// Status B: the guest sets the time (which has no effect).
const FREEZE: u8 = 1 << 7;
/// Status B: numbers are binary, not BCD.
const BINARY: u8 = 1 << 2;
/// Status B: hours are 0 to 23, not 1 to 12.
const HOURS_24: u8 = 1 << 1;
/// Status D: time and memory are valid.
const VALID: u8 = 1 << 7;
/// Hours: afternoon, where they are 1 to 12.
const AFTERNOON: u8 = 1 << 7;

const DAY_S: u64 = 24 * 60 * 60;
/// 31 December 9999, 23:59:59 UTC.
const LAST_SECOND: u64 = 253_402_300_799;
/// How long the registers stand still: a guest reads all of them in well under this time.
const SHOWN_FOR: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    fn clock_at(since_1970: Duration) -> Rtc {
        NOW.set(since_1970);
        Rtc::with_clock(|| NOW.get())
    }

    fn read(rtc: &mut Rtc, register: u8) -> u8 {
        rtc.write(0, register);
        rtc.read(1)
    }

    fn set(rtc: &mut Rtc, register: u8, byte: u8) {
        rtc.write(0, register);
        rtc.write(1, byte);
    }

    /// Century, year, month, day, weekday, hour, minute, second.
    fn date(rtc: &mut Rtc) -> [u8; 8] {
        [0x32, 9, 8, 7, 6, 4, 2, 0].map(|register| read(rtc, register))
    }

    /// 30 November 2026, a Monday, 14:57:58 UTC.
    const MONDAY: Duration = Duration::from_secs(1_796_050_678);

    #[test]
    fn the_date_is_in_bcd_with_24_hours_after_reset() {
        let mut rtc = clock_at(MONDAY);
        assert_eq!(
            date(&mut rtc),
            [0x20, 0x26, 0x11, 0x30, 2, 0x14, 0x57, 0x58]
        );
        assert_eq!(read(&mut rtc, 0x0B), 0x02);
    }

    #[test]
    fn status_register_b_chooses_binary_and_12_hours() {
        let mut rtc = clock_at(MONDAY);
        set(&mut rtc, 0x0B, 0x06);
        assert_eq!(date(&mut rtc), [20, 26, 11, 30, 2, 14, 57, 58]);
        set(&mut rtc, 0x0B, 0x04);
        assert_eq!(read(&mut rtc, 4), 0x80 | 2);
        set(&mut rtc, 0x0B, 0x00);
        assert_eq!(read(&mut rtc, 4), 0x80 | 0x02);
        let mut midnight = clock_at(Duration::ZERO);
        set(&mut midnight, 0x0B, 0x00);
        assert_eq!(read(&mut midnight, 4), 0x12);
        let mut noon = clock_at(Duration::from_secs(12 * 3600));
        set(&mut noon, 0x0B, 0x00);
        assert_eq!(read(&mut noon, 4), 0x80 | 0x12);
    }

    #[test]
    fn no_update_is_ever_in_progress_and_no_interrupt_can_be_enabled() {
        let mut rtc = clock_at(MONDAY);
        assert_eq!(read(&mut rtc, 0x0A), 0x26);
        set(&mut rtc, 0x0A, 0xFF);
        assert_eq!(read(&mut rtc, 0x0A) & 0x80, 0);
        set(&mut rtc, 0x0B, 0x72);
        assert_eq!(read(&mut rtc, 0x0B), 0x02);
        assert_eq!(
            (read(&mut rtc, 0x0C), read(&mut rtc, 0x0D)),
            (0, 0x80),
            "no interrupt; time and memory are valid"
        );
    }

    #[test]
    fn the_date_cannot_be_set_and_memory_can() {
        let mut rtc = clock_at(MONDAY);
        set(&mut rtc, 0, 0);
        set(&mut rtc, 0x0D, 0);
        set(&mut rtc, 0x0F, 0x0A);
        assert_eq!((read(&mut rtc, 0), read(&mut rtc, 0x0D)), (0x58, 0x80));
        assert_eq!((read(&mut rtc, 0x0F), read(&mut rtc, 0x7F)), (0x0A, 0));
        rtc.write(0, 0x80 | 0x0F);
        assert_eq!((rtc.read(0), rtc.read(1)), (0xFF, 0x0A), "NMI masked");
    }

    #[test]
    fn registers_read_one_after_the_other_belong_together() {
        let before_new_year = Duration::from_millis(1_798_761_599_999);
        let mut rtc = clock_at(before_new_year);
        assert_eq!(read(&mut rtc, 0), 0x59);
        NOW.set(before_new_year + Duration::from_millis(2));
        assert_eq!(
            date(&mut rtc),
            [0x20, 0x26, 0x12, 0x31, 5, 0x23, 0x59, 0x59]
        );
        // A guest that looks whether an update is in progress gets the new time.
        assert_eq!(read(&mut rtc, 0x0A), 0x26);
        assert_eq!(date(&mut rtc), [0x20, 0x27, 1, 1, 6, 0, 0, 0]);
        NOW.set(before_new_year + Duration::from_millis(1013));
        assert_eq!(read(&mut rtc, 0), 1);
        // The host's clock was set back.
        NOW.set(MONDAY);
        assert_eq!(read(&mut rtc, 0), 0x58);
    }

    /// Counts days as a calendar does: the next day, the next month, the next year.
    #[test]
    fn each_day_of_four_centuries_follows_the_day_before() {
        let (mut year, mut month, mut day, mut weekday) = (1970_u32, 1_u8, 1_u8, 5_u8);
        for days in 0..146_097_u64 {
            let date = Date::of(Duration::from_secs(days * 86_400 + 86_399));
            assert_eq!(
                (
                    u32::from(date.century) * 100 + u32::from(date.year),
                    date.month,
                    date.day
                ),
                (year, month, day)
            );
            assert_eq!(
                (date.weekday, date.hour, date.minute, date.second),
                (weekday, 23, 59, 59)
            );
            let leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
            let last = match month {
                2 => 28 + u8::from(leap),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            weekday = weekday % 7 + 1;
            (day, month) = if day == last {
                (1, month + 1)
            } else {
                (day + 1, month)
            };
            if month == 13 {
                (month, year) = (1, year + 1);
            }
        }
        assert_eq!((year, month, day, weekday), (2370, 1, 1, 5));
    }

    #[test]
    fn a_clock_far_in_the_future_stays_in_year_9999() {
        let date = Date::of(Duration::MAX);
        assert_eq!(
            (date.century, date.year, date.month, date.day, date.second),
            (99, 99, 12, 31, 59)
        );
    }
}
