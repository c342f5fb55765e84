//! Paths as bytes. Absolute paths begin with `/` and special paths with `@`. All others are
//! relative to the caller's home.

/// The longest path in bytes, from a domain's home or from the root.
const MAX_PATH_BYTES: usize = 2048;

/// Returns the home of a domain: its relative paths begin there.
pub(crate) fn home(domid: u32) -> Vec<u8> {
    format!("/local/domain/{domid}").into_bytes()
}

/// Makes a relative path absolute. The path may be invalid.
pub(crate) fn canonical(home: &[u8], raw: &[u8]) -> Vec<u8> {
    match raw.first() {
        Some(b'/' | b'@') => raw.to_vec(),
        _ => [home, b"/", raw].concat(),
    }
}

/// Whether a path is special: the store itself makes the events of such a path.
pub(crate) fn is_special(path: &[u8]) -> bool {
    path.first() == Some(&b'@')
}

/// Whether a special path is short enough to be watched.
pub(crate) fn is_short(path: &[u8]) -> bool {
    path.len() <= MAX_PATH_BYTES
}

/// Whether a node may have this absolute path.
pub(crate) fn is_valid(path: &[u8]) -> bool {
    let is_rooted = path.first() == Some(&b'/');
    let ends_well = path.len() == 1 || path.last() != Some(&b'/');
    let has_empty_name = path.windows(2).any(|pair| pair == b"//");
    let limit = MAX_PATH_BYTES.saturating_add(home_len(path));
    let is_spelt = |byte: &u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(byte);
    is_rooted && ends_well && !has_empty_name && path.len() <= limit && path.iter().all(is_spelt)
}

/// Returns the length of a path's `/local/domain/N/`, if it has one: it does not count against the
/// limit.
fn home_len(path: &[u8]) -> usize {
    const BEFORE: &[u8] = b"/local/domain/";
    let Some(rest) = path.strip_prefix(BEFORE) else {
        return 0;
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_home = (1..=5).contains(&digits) && rest.get(digits) == Some(&b'/');
    if is_home {
        BEFORE.len().saturating_add(digits).saturating_add(1)
    } else {
        0
    }
}

/// Returns the path of the node above. The root is above itself.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) | None => b"/",
        Some(slash) => path.get(..slash).unwrap_or(b"/"),
    }
}

/// Returns the last name of a path.
pub(crate) fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Returns the path of a child.
pub(crate) fn child(parent: &[u8], name: &[u8]) -> Vec<u8> {
    match parent {
        b"/" => [b"/", name].concat(),
        _ => [parent, b"/", name].concat(),
    }
}

/// Whether `path` is `above` or below it.
pub(crate) fn is_within(path: &[u8], above: &[u8]) -> bool {
    above == b"/"
        || path
            .strip_prefix(above)
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
}

#[cfg(test)]
mod tests {
    use super::{base, canonical, child, home, is_valid, is_within, parent};

    #[test]
    fn a_relative_path_lies_below_the_callers_home() {
        assert_eq!(canonical(&home(7), b"a/b"), b"/local/domain/7/a/b");
        assert_eq!(canonical(&home(7), b"/a"), b"/a");
        assert_eq!(canonical(&home(7), b"@a"), b"@a");
        assert_eq!(canonical(&home(7), b""), b"/local/domain/7/");
    }

    #[test]
    fn paths_have_the_characters_of_the_protocol() {
        for good in ["/", "/a", "/a/b", "/A-z_0/@", "/local/domain/1"] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        for bad in [
            "", "a", "@a", "//", "/a//b", "/a/", "/a b", "/a.b", "/é", "/a\n",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_path_has_at_most_2048_bytes_beside_its_home() {
        let name = |len| vec![b'x'; len];
        assert!(is_valid(&child(b"/", &name(2047))));
        assert!(!is_valid(&child(b"/", &name(2048))));
        assert!(is_valid(&child(b"/local/domain/65535", &name(2048))));
        assert!(!is_valid(&child(b"/local/domain/65535", &name(2049))));
        assert!(!is_valid(&child(b"/local/domain/655350", &name(2048))));
        assert!(!is_valid(&child(b"/local/domain/x", &name(2048))));
    }

    #[test]
    fn child_undoes_parent_and_base() {
        for (path, above, name) in [
            ("/a", "/", "a"),
            ("/a/b", "/a", "b"),
            ("/a/b/c", "/a/b", "c"),
        ] {
            let (path, above, name) = (path.as_bytes(), above.as_bytes(), name.as_bytes());
            assert_eq!((parent(path), base(path)), (above, name));
            assert_eq!(child(above, name), path);
        }
        assert_eq!(parent(b"/"), b"/");
    }

    #[test]
    fn a_path_is_within_itself_and_within_paths_above() {
        for (path, above) in [("/a", "/a"), ("/a/b", "/a"), ("/a", "/"), ("/", "/")] {
            assert!(
                is_within(path.as_bytes(), above.as_bytes()),
                "{path} {above}"
            );
        }
        for (path, above) in [("/ab", "/a"), ("/a", "/a/b"), ("/", "/a"), ("@a", "/a")] {
            assert!(
                !is_within(path.as_bytes(), above.as_bytes()),
                "{path} {above}"
            );
        }
    }
}
