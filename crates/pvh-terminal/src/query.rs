//! Finds questions to the terminal in console output: their answers come back as typed keys.

/// Looks for questions in output that comes in pieces: guests print byte by byte.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// The end of the output so far, at most [`TAIL_BYTES`].
    tail: Vec<u8>,
}

impl Questions {
    /// Tells whether this piece ends or holds a question. It costs one pass over the bytes.
    pub(crate) fn find(&mut self, piece: &[u8]) -> bool {
        self.tail.extend(piece);
        let is_found = asks_terminal(&self.tail);
        let end = match is_found {
            true => self.tail.len(),
            false => self.tail.len().saturating_sub(TAIL_BYTES),
        };
        self.tail.drain(..end);
        is_found
    }
}

/// Longer than any question that is looked for.
const TAIL_BYTES: usize = 32;

/// Tells whether output asks the terminal something, such as the place of its cursor.
fn asks_terminal(output: &[u8]) -> bool {
    let mut rest = output;
    while let Some(at) = rest.iter().position(|&byte| byte == ESCAPE) {
        rest = rest.get(at.saturating_add(1)..).unwrap_or_default();
        if is_question(rest) {
            return true;
        }
    }
    false
}

/// Tells whether the bytes behind an escape character are a question.
fn is_question(sequence: &[u8]) -> bool {
    match sequence {
        // DECID, and requests for settings (DECRQSS, XTGETTCAP).
        [b'Z', ..] | [b'P', b'$' | b'+', b'q', ..] => true,
        // Reports of status, device, mode, window and keyboard.
        [b'[', rest @ ..] => {
            let end = rest.iter().find(|byte| (0x40..=0x7E).contains(*byte));
            end.is_some_and(|end| b"cnptux".contains(end))
        }
        // Requests for colours.
        [b']', rest @ ..] => {
            let text = rest.split(|&byte| byte == BELL || byte == ESCAPE);
            text.take(1).any(|text| text.ends_with(b"?"))
        }
        _ => false,
    }
}

const ESCAPE: u8 = 0x1B;
const BELL: u8 = 0x07;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_to_the_terminal_are_found() {
        let questions = [
            "\x1b[6n",
            "\x1b[?6n",
            "login\x1b[1m: \x1b[c",
            "\x1b[>0q\x1b[>c",
            "\x1bZ",
            "\x1b[18t",
            "\x1b[?2026$p",
            "\x1b]11;?\x07",
            "\x1b]11;?\x1b\\",
            "\x1bP$qm\x1b\\",
        ];
        for question in questions {
            assert!(asks_terminal(question.as_bytes()), "{question:?}");
        }
    }

    #[test]
    fn a_question_that_comes_byte_by_byte_is_found_once() {
        let mut questions = Questions::default();
        let text = [&[b'x'; 100][..], b"\x1b[6n", &[b'y'; 100]].concat();
        let found = text.iter().filter(|&&byte| questions.find(&[byte]));
        assert_eq!(found.count(), 1);
        assert!(questions.tail.len() <= TAIL_BYTES);
    }

    #[test]
    fn other_output_is_no_question() {
        let others = [
            "",
            "plain ?",
            "\x1b",
            "\x1b[",
            "\x1b[31mred\x1b[0m",
            "\x1b[2J\x1b[1;1H",
            "\x1b]0;what?no\x07",
            "\x1b(B",
        ];
        for other in others {
            assert!(!asks_terminal(other.as_bytes()), "{other:?}");
        }
    }
}
