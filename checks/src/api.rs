//! The public items of a crate as text, so that a change of them shows in a diff.
//!
//! The text is read from the sources: every `pub` item, without bodies, private fields and
//! documentation, in its module. The lint `unreachable_pub` is on, so an item that is `pub` can be
//! named from outside, if not by this path then by a `pub use` that is listed too.
//!
//! It does not see items that a macro makes (it lists the macro's call as it stands), traits that
//! the compiler implements by itself (`Send`), and types that a function hides behind `impl`.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Block, Field, Fields, File, ImplItem, Item, TraitItem, Type, Visibility, parse_quote,
};

/// Why the public items of a crate cannot be listed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// A source file cannot be read.
    #[error("{}: cannot read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A source file is not Rust that this program knows.
    #[error("{}: cannot parse it", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: syn::Error,
    },
    /// No file has the module's text.
    #[error("{}: no file for the module `{module}`", folder.display())]
    NoModule {
        /// Its name.
        module: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
}

/// Lists the public items of the crate whose root is `src/lib.rs` in a folder.
///
/// # Errors
///
/// [`ApiError`].
pub fn public_items(folder: &Path) -> Result<String, ApiError> {
    let root = folder.join("src/lib.rs");
    let items = whole_module(&root, &folder.join("src"))?;
    Ok(listing(items))
}

/// Lists the public items among these, whose modules are inline.
fn listing(items: Vec<Item>) -> String {
    let mut names = BTreeSet::new();
    collect_names(&items, &mut names);
    let items = items.into_iter().filter_map(|item| public(item, &names));
    prettyplease::unparse(&File {
        shebang: None,
        attrs: Vec::new(),
        items: items.collect(),
    })
}

/// Reads a file, and the files of its modules into it; `folder` is where those are.
fn whole_module(path: &Path, folder: &Path) -> Result<Vec<Item>, ApiError> {
    let path = || path.to_owned();
    let text = fs::read_to_string(path());
    let text = text.map_err(|source| ApiError::Read {
        path: path(),
        source,
    })?;
    let file = syn::parse_file(&text);
    let file = file.map_err(|source| ApiError::Parse {
        path: path(),
        source,
    })?;
    let mut items = file.items;
    items.retain(|item| !is_for_tests(attributes(item)));
    for item in &mut items {
        let Item::Mod(module) = item else { continue };
        let name = module.ident.to_string();
        if module.content.is_none() {
            let below = folder.join(&name);
            let file = folder.join(format!("{name}.rs"));
            if !file.is_file() {
                return Err(ApiError::NoModule {
                    module: name,
                    folder: folder.to_owned(),
                });
            }
            let items = whole_module(&file, &below)?;
            module.content = Some((syn::token::Brace::default(), items));
        }
    }
    Ok(items)
}

/// The names of all types and traits that are `pub`.
fn collect_names(items: &[Item], names: &mut BTreeSet<String>) {
    for item in items {
        let (vis, ident) = match item {
            Item::Struct(one) => (&one.vis, &one.ident),
            Item::Enum(one) => (&one.vis, &one.ident),
            Item::Union(one) => (&one.vis, &one.ident),
            Item::Trait(one) => (&one.vis, &one.ident),
            Item::Mod(one) => {
                if let Some((_, items)) = &one.content {
                    collect_names(items, names);
                }
                continue;
            }
            _ => continue,
        };
        if is_pub(vis) {
            names.insert(ident.to_string());
        }
    }
}

/// The part of an item that others see, if there is one.
fn public(mut item: Item, names: &BTreeSet<String>) -> Option<Item> {
    keep_told(attributes_mut(&mut item)?);
    match &mut item {
        Item::Mod(module) => {
            let (_, items) = module.content.as_mut()?;
            let all = core::mem::take(items).into_iter();
            *items = all.filter_map(|item| public(item, names)).collect();
            (!items.is_empty()).then_some(item)
        }
        Item::Struct(one) => {
            strip_fields(&mut one.fields);
            is_pub(&one.vis).then_some(item)
        }
        Item::Enum(one) => {
            for variant in &mut one.variants {
                keep_told(&mut variant.attrs);
                strip_docs(&mut variant.fields);
            }
            is_pub(&one.vis).then_some(item)
        }
        Item::Fn(one) => {
            *one.block = no_body();
            is_pub(&one.vis).then_some(item)
        }
        Item::Trait(one) => {
            one.items.iter_mut().for_each(strip_trait_item);
            is_pub(&one.vis).then_some(item)
        }
        Item::Impl(one) => {
            let of = last_name(&one.self_ty);
            let of_public = of.is_none_or(|name| names.contains(&name) || one.trait_.is_some());
            let is_known = match &one.trait_ {
                Some((_, path, _)) => {
                    let name = path.segments.last().map(|last| last.ident.to_string());
                    let is_ours = name.is_some_and(|name| names.contains(&name));
                    is_ours || last_name(&one.self_ty).is_some_and(|name| names.contains(&name))
                }
                None => of_public,
            };
            let is_of_trait = one.trait_.is_some();
            let all = core::mem::take(&mut one.items).into_iter();
            one.items = all
                .filter_map(|item| impl_item(item, is_of_trait))
                .collect();
            (is_known && (is_of_trait || !one.items.is_empty())).then_some(item)
        }
        Item::Const(one) => is_pub(&one.vis).then_some(item),
        Item::Static(one) => is_pub(&one.vis).then_some(item),
        Item::Type(one) => is_pub(&one.vis).then_some(item),
        Item::Union(one) => is_pub(&one.vis).then_some(item),
        Item::Use(one) => is_pub(&one.vis).then_some(item),
        Item::Macro(one) => {
            let is_exported = one
                .attrs
                .iter()
                .any(|one| one.path().is_ident("macro_export"));
            (one.ident.is_none() && names_public(one) || is_exported).then_some(item)
        }
        _ => None,
    }
}

/// Whether a macro's call has the word `pub` in it, so that it may make public items.
fn names_public(call: &syn::ItemMacro) -> bool {
    let text = call.mac.tokens.to_string();
    text.split_whitespace().any(|word| word == "pub")
}

fn impl_item(mut item: ImplItem, is_of_trait: bool) -> Option<ImplItem> {
    match &mut item {
        ImplItem::Fn(one) => {
            keep_told(&mut one.attrs);
            one.block = match no_body() {
                body if !is_of_trait => body,
                // The trait says what it is.
                _ => return None,
            };
            is_pub(&one.vis).then_some(item)
        }
        ImplItem::Const(one) => {
            keep_told(&mut one.attrs);
            (is_pub(&one.vis) || is_of_trait).then_some(item)
        }
        ImplItem::Type(one) => {
            keep_told(&mut one.attrs);
            Some(item)
        }
        _ => None,
    }
}

fn strip_trait_item(item: &mut TraitItem) {
    match item {
        TraitItem::Fn(one) => {
            keep_told(&mut one.attrs);
            if let Some(body) = &mut one.default {
                *body = no_body();
            }
        }
        TraitItem::Const(one) => keep_told(&mut one.attrs),
        TraitItem::Type(one) => keep_told(&mut one.attrs),
        _ => {}
    }
}

/// Private fields become one, for others see only that there are some.
fn strip_fields(fields: &mut Fields) {
    strip_docs(fields);
    match fields {
        Fields::Named(named) => {
            let all = core::mem::take(&mut named.named);
            let count = all.len();
            named.named = all.into_iter().filter(|field| is_pub(&field.vis)).collect();
            if named.named.len() < count {
                let hidden: syn::FieldsNamed = parse_quote!({ __private: () });
                named.named.extend(hidden.named);
            }
        }
        Fields::Unnamed(unnamed) => {
            for field in unnamed
                .unnamed
                .iter_mut()
                .filter(|field| !is_pub(&field.vis))
            {
                field.ty = parse_quote!(__Private);
            }
        }
        Fields::Unit => {}
    }
}

fn strip_docs(fields: &mut Fields) {
    fields
        .iter_mut()
        .for_each(|field: &mut Field| keep_told(&mut field.attrs));
}

/// Keeps the attributes that say something about the item to others.
fn keep_told(attributes: &mut Vec<Attribute>) {
    const TOLD: [&str; 7] = [
        "cfg",
        "deprecated",
        "derive",
        "macro_export",
        "must_use",
        "non_exhaustive",
        "repr",
    ];
    attributes.retain(|one| TOLD.iter().any(|told| one.path().is_ident(told)));
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|one| {
        let is_cfg = one.path().is_ident("cfg");
        is_cfg && matches!(&one.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(one) => &one.attrs,
        Item::Enum(one) => &one.attrs,
        Item::Fn(one) => &one.attrs,
        Item::Impl(one) => &one.attrs,
        Item::Macro(one) => &one.attrs,
        Item::Mod(one) => &one.attrs,
        Item::Static(one) => &one.attrs,
        Item::Struct(one) => &one.attrs,
        Item::Trait(one) => &one.attrs,
        Item::Type(one) => &one.attrs,
        Item::Union(one) => &one.attrs,
        Item::Use(one) => &one.attrs,
        _ => &[],
    }
}

/// `None` for kinds of items that are never listed.
const fn attributes_mut(item: &mut Item) -> Option<&mut Vec<Attribute>> {
    Some(match item {
        Item::Const(one) => &mut one.attrs,
        Item::Enum(one) => &mut one.attrs,
        Item::Fn(one) => &mut one.attrs,
        Item::Impl(one) => &mut one.attrs,
        Item::Macro(one) => &mut one.attrs,
        Item::Mod(one) => &mut one.attrs,
        Item::Static(one) => &mut one.attrs,
        Item::Struct(one) => &mut one.attrs,
        Item::Trait(one) => &mut one.attrs,
        Item::Type(one) => &mut one.attrs,
        Item::Union(one) => &mut one.attrs,
        Item::Use(one) => &mut one.attrs,
        _ => return None,
    })
}

const fn is_pub(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

fn last_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
        Type::Reference(reference) => last_name(&reference.elem),
        _ => None,
    }
}

fn no_body() -> Block {
    parse_quote!({})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> String {
        listing(syn::parse_file(text).unwrap().items)
    }

    #[test]
    fn public_items_are_listed_without_bodies_docs_and_private_fields() {
        let text = "
            /// Words.
            #[must_use]
            pub fn f(x: u8) -> u8 { x }
            fn hidden() {}
            #[derive(Clone)]
            pub struct S { /** Words. */ pub a: u8, b: u8 }
            impl S { pub fn new() -> Self { todo!() } fn own(&self) {} }
            impl Default for S { fn default() -> Self { Self::new() } }
            pub trait T { fn needed(&self); fn given(&self) { work() } }
            pub(crate) struct Own;
            impl Own { pub fn x() {} }
            impl Default for Own { fn default() -> Self { Own } }
        ";
        let want = "\
#[must_use]
pub fn f(x: u8) -> u8 {}
#[derive(Clone)]
pub struct S {
    pub a: u8,
    __private: (),
}
impl S {
    pub fn new() -> Self {}
}
impl Default for S {}
pub trait T {
    fn needed(&self);
    fn given(&self) {}
}
";
        assert_eq!(listed(text), want);
    }

    #[test]
    fn a_module_is_listed_if_something_public_is_in_it() {
        let listed = listed("mod a { pub const X: u8 = 1; } mod b { const Y: u8 = 2; }");
        assert_eq!(listed, "mod a {\n    pub const X: u8 = 1;\n}\n");
    }

    #[test]
    fn a_change_that_breaks_users_changes_the_text() {
        let before = listed("pub fn f(x: u8) {}");
        assert_ne!(before, listed("pub fn f(x: u16) {}"));
        assert_ne!(before, listed("pub unsafe fn f(x: u8) {}"));
        assert_eq!(before, listed("/// New words.\npub fn f(x: u8) { x; }"));
    }
}
