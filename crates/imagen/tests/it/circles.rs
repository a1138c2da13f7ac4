//! No two files need each other: reads the sources of every crate, finds in which file each item stands that a file names,
//! and fails with every circle and the names that close it.
//!
//! A re-export is no edge: what `super::X` means is looked up where X is defined. What cannot be seen: methods, which have no
//! path, and what macros write.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The crates whose files are read, beside this one.
const CRATES: [&str; 5] = ["imagen-kernels", "imagen", "imagen-server", "imagen-cli", "imagen-py"];

type Names = Vec<String>;

/// What a name stands for in a module.
enum Meaning {
    Module(usize),
    /// Defined here.
    Item,
    /// Brought by `use`.
    Alias(Names),
}

/// Where a path leads.
#[derive(Clone, Copy)]
enum Place {
    Module(usize),
    /// To an item of this file, or beyond one.
    File(usize),
}

#[derive(Default)]
struct Module {
    file: usize,
    parent: Option<usize>,
    names: BTreeMap<String, Vec<Meaning>>,
    globs: Vec<Names>,
    /// Paths in its code, and those of its private `use`s.
    paths: BTreeSet<Names>,
    /// Deeper than a function, definitions are nobody else's.
    depth: usize,
}

/// The modules of one crate, the first being its root.
#[derive(Default)]
struct Sources {
    files: Vec<PathBuf>,
    modules: Vec<Module>,
}

impl Sources {
    fn read(root: &Path) -> Self {
        let mut sources = Self::default();
        sources.add_file(root.to_owned(), None);
        sources
    }

    fn add_file(&mut self, path: PathBuf, parent: Option<usize>) -> usize {
        let text = std::fs::read_to_string(&path).unwrap();
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.files.push(path);
        self.add(parent, self.files.len() - 1, &file.items)
    }

    fn add(&mut self, parent: Option<usize>, file: usize, items: &[syn::Item]) -> usize {
        self.modules.push(Module { file, parent, ..Module::default() });
        let module = self.modules.len() - 1;
        let mut reader = Reader { sources: self, module };
        items.iter().for_each(|item| reader.visit_item(item));
        module
    }

    /// Where the file of module `name` lies that `file` declares.
    fn child(&self, file: usize, name: &str) -> PathBuf {
        let path = &self.files[file];
        let owns_folder = ["lib", "main", "mod"].iter().any(|&stem| path.file_stem().unwrap() == stem);
        let folder = if owns_folder { path.parent().unwrap().to_owned() } else { path.with_extension("") };
        let candidates = [folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs")];
        candidates.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{name} in {}", path.display()))
    }

    /// The files that define what `path` means in `module`; nothing for other crates and for modules themselves.
    fn defining(&self, module: usize, path: &[String]) -> Vec<usize> {
        let files = self.resolve(module, path, 0).into_iter();
        files.filter_map(|place| if let Place::File(file) = place { Some(file) } else { None }).collect()
    }

    fn resolve(&self, module: usize, path: &[String], depth: usize) -> Vec<Place> {
        let (first, rest) = path.split_first().expect("a path has a name");
        let start = match first.as_str() {
            "crate" => vec![Place::Module(0)],
            "self" => vec![Place::Module(module)],
            name => self.lookup(module, name, depth),
        };
        rest.iter().fold(start, |found, name| {
            let step = |place: Place| match place {
                Place::Module(module) => self.lookup(module, name, depth),
                file => vec![file],
            };
            found.into_iter().flat_map(step).collect()
        })
    }

    /// What a name means in a module; `depth` counts the aliases on the way.
    fn lookup(&self, module: usize, name: &str, depth: usize) -> Vec<Place> {
        const DEEPEST: usize = 12; // `use libc;` means itself
        if depth == DEEPEST {
            return Vec::new();
        }
        let Module { file, parent, names, globs, .. } = &self.modules[module];
        if name == "super" {
            return parent.map(Place::Module).into_iter().collect();
        }
        let Some(meanings) = names.get(name) else {
            let modules = globs.iter().flat_map(|glob| self.resolve(module, glob, depth + 1));
            let within = |place| {
                if let Place::Module(module) = place { self.lookup(module, name, depth + 1) } else { Vec::new() }
            };
            return modules.flat_map(within).collect();
        };
        let meant = |meaning: &Meaning| match meaning {
            Meaning::Module(module) => vec![Place::Module(*module)],
            Meaning::Item => vec![Place::File(*file)],
            Meaning::Alias(path) => self.resolve(module, path, depth + 1),
        };
        meanings.iter().flat_map(meant).collect()
    }

    /// Every pair of files of which the first names items of the second, with the paths by which it does.
    fn edges(&self) -> BTreeMap<(usize, usize), BTreeSet<String>> {
        let mut edges = BTreeMap::<_, BTreeSet<String>>::new();
        for (at, module) in self.modules.iter().enumerate() {
            for path in &module.paths {
                for file in self.defining(at, path).into_iter().filter(|&file| file != module.file) {
                    edges.entry((module.file, file)).or_default().insert(path.join("::"));
                }
            }
        }
        edges
    }

    /// A paragraph for every circle: its files, and the names by which each needs another.
    fn circles(&self, root: &Path) -> Vec<String> {
        let edges = self.edges();
        let reached: Vec<BTreeSet<usize>> = (0..self.files.len())
            .map(|file| {
                let (mut reached, mut next) = (BTreeSet::new(), vec![file]);
                while let Some(from) = next.pop() {
                    next.extend(
                        edges.range((from, 0)..(from + 1, 0)).map(|(&(_, to), _)| to).filter(|&to| reached.insert(to)),
                    );
                }
                reached
            })
            .collect();
        let together = |a: usize, b: usize| reached[a].contains(&b) && reached[b].contains(&a);
        let name = |file: usize| self.files[file].strip_prefix(root).unwrap().display();
        let first = |&file: &usize| together(file, file) && !(0..file).any(|before| together(before, file));
        let circle = |file: usize| {
            let inner = edges.iter().filter(|((from, to), _)| together(file, *from) && together(file, *to));
            let line = |((from, to), paths): (&(usize, usize), &BTreeSet<String>)| {
                let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
                format!("  {} -> {} ({})", name(*from), name(*to), paths.join(", "))
            };
            inner.map(line).collect::<Vec<_>>().join("\n")
        };
        (0..self.files.len()).filter(first).map(circle).collect()
    }
}

/// Fills one module with what its items define, bring and name.
struct Reader<'a> {
    sources: &'a mut Sources,
    module: usize,
}

impl Reader<'_> {
    fn here(&mut self) -> &mut Module {
        &mut self.sources.modules[self.module]
    }

    fn define(&mut self, name: &syn::Ident, meaning: Meaning) {
        self.here().names.entry(name.to_string()).or_default().push(meaning);
    }

    fn bring(&mut self, tree: &syn::UseTree, before: &[String], private: bool) {
        let with = |name: &syn::Ident| match (name.to_string().as_str(), before) {
            ("self", [_, ..]) => before.to_vec(),
            (name, _) => before.iter().cloned().chain([name.to_owned()]).collect(),
        };
        let (path, name) = match tree {
            syn::UseTree::Path(tree) => return self.bring(&tree.tree, &with(&tree.ident), private),
            syn::UseTree::Group(group) => return group.items.iter().for_each(|tree| self.bring(tree, before, private)),
            syn::UseTree::Glob(_) => return self.here().globs.push(before.to_vec()),
            syn::UseTree::Name(tree) => (with(&tree.ident), None),
            syn::UseTree::Rename(tree) => (with(&tree.ident), Some(tree.rename.to_string())),
        };
        if private {
            self.here().paths.insert(path.clone());
        }
        let name = name.unwrap_or_else(|| path.last().expect("a path has a name").clone());
        if !["_", "crate", "super"].contains(&name.as_str()) {
            self.here().names.entry(name).or_default().push(Meaning::Alias(path));
        }
    }

    /// Paths among tokens that a macro or an attribute has not made anything of.
    fn scan(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Names::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.name(std::mem::take(&mut path));
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                other => {
                    self.name(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.scan(group.stream());
                    }
                }
            }
        }
        self.name(path);
    }

    fn name(&mut self, path: Names) {
        if !path.is_empty() {
            self.here().paths.insert(path);
        }
    }
}

/// Whether the attributes keep an item for tests.
fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| a.path().is_ident("cfg") && a.parse_args::<syn::Ident>().is_ok_and(|name| name == "test"))
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        use syn::Item::{Const, Enum, Fn, Static, Struct, Trait, TraitAlias, Type, Union};
        let (name, attributes) = match item {
            Const(item) => (&item.ident, &item.attrs),
            Enum(item) => (&item.ident, &item.attrs),
            Fn(item) => (&item.sig.ident, &item.attrs),
            Static(item) => (&item.ident, &item.attrs),
            Struct(item) => (&item.ident, &item.attrs),
            Trait(item) => (&item.ident, &item.attrs),
            TraitAlias(item) => (&item.ident, &item.attrs),
            Type(item) => (&item.ident, &item.attrs),
            Union(item) => (&item.ident, &item.attrs),
            syn::Item::Use(item) if for_tests(&item.attrs) => return,
            syn::Item::Impl(item) if for_tests(&item.attrs) => return,
            other => return visit::visit_item(self, other),
        };
        if for_tests(attributes) {
            return;
        }
        if self.here().depth == 0 {
            self.define(name, Meaning::Item);
        }
        visit::visit_item(self, item);
    }

    fn visit_block(&mut self, block: &'ast syn::Block) {
        self.here().depth += 1;
        visit::visit_block(self, block);
        self.here().depth -= 1;
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if for_tests(&item.attrs) {
            return;
        }
        let file = self.here().file;
        let module = match &item.content {
            Some((_, items)) => self.sources.add(Some(self.module), file, items),
            None => self.sources.add_file(self.sources.child(file, &item.ident.to_string()), Some(self.module)),
        };
        self.define(&item.ident, Meaning::Module(module));
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.bring(&item.tree, &[], matches!(item.vis, syn::Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.name(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.scan(call.tokens.clone());
        visit::visit_macro(self, call);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.scan(list.tokens.clone());
    }
}

#[test]
fn no_two_files_need_each_other() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut circles = Vec::new();
    for name in CRATES {
        let folder = crates.join(name).join("src");
        let root = ["lib.rs", "main.rs"].into_iter().map(|file| folder.join(file)).find(|root| root.exists()).unwrap();
        circles.extend(Sources::read(&root).circles(crates));
    }
    assert!(circles.is_empty(), "{} circles of files:\n{}", circles.len(), circles.join("\n\n"));
}

#[test]
fn a_circle_is_found_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("c")).unwrap();
    write("lib.rs", "mod a; mod b; mod c; mod d; pub use a::A; fn root() {}");
    write("a.rs", "use super::c::Two; pub struct A; fn f() -> Two { vec![super::b::b()] }");
    write("b.rs", "pub fn b() { crate::A; } // crate::root, super::d::D");
    write("c.rs", "mod one; mod two; pub(crate) use two::*; const TEXT: &str = \"super::d::D\";");
    write("c/one.rs", "pub struct One; #[cfg(test)] mod tests { use super::super::two::Two; }");
    write("c/two.rs", "pub struct Two; fn f(one: super::one::One) { super::super::root(); }");
    write("d.rs", "pub struct D; use crate::c::Two; use imagen::D;");
    let sources = Sources::read(&folder.path().join("lib.rs"));
    let circles = sources.circles(folder.path());
    assert_eq!(circles, ["  a.rs -> b.rs (super::b::b)\n  b.rs -> a.rs (crate::A)"]);
    let name = |file: usize| sources.files[file].strip_prefix(folder.path()).unwrap().display().to_string();
    let edges: Vec<String> = sources.edges().keys().map(|&(from, to)| format!("{} {}", name(from), name(to))).collect();
    let expected = ["a.rs b.rs", "a.rs c/two.rs", "b.rs a.rs", "c/two.rs lib.rs", "c/two.rs c/one.rs", "d.rs c/two.rs"];
    assert_eq!(BTreeSet::from_iter(edges), BTreeSet::from_iter(expected.map(String::from)));
}
