//! The directories of the simulated disk: names as seen, names that are durable, and the changes between.

use super::Random;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

pub(super) const ROOT: usize = 0;

/// A file (by its place among the contents) or a directory (by its node).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    File(usize),
    Directory(usize),
}

type Image = Vec<BTreeMap<String, Node>>;

/// One name set or taken away.
#[derive(Clone, Debug)]
struct Edit {
    directory: usize,
    name: String,
    node: Option<Node>,
}

/// What happens whole or not at all: one edit, or the two of a rename.
#[derive(Clone, Debug)]
struct Change {
    edits: Vec<Edit>,
    subject: Node,
}

pub(super) struct Names {
    volatile: Image,
    durable: Image,
    unsynced: Vec<Change>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { volatile: vec![BTreeMap::new()], durable: vec![BTreeMap::new()], unsynced: Vec::new() }
    }

    fn lookup(&self, path: &str) -> Option<Node> {
        find(&self.volatile, path)
    }

    /// The file that a path would lead to after a power cut that loses all it may.
    pub(super) fn durable_file(&self, path: &str) -> Option<usize> {
        match find(&self.durable, path)? {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        }
    }

    /// The names in a directory that such a power cut would leave.
    pub(super) fn durable_names(&self, path: &str) -> Vec<String> {
        match find(&self.durable, path) {
            Some(Node::Directory(directory)) => self.durable[directory].keys().cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// A name that was durable is gone, from both images.
    pub(super) fn lose(&mut self, path: &str) -> bool {
        let (Some(subject), Ok((directory, name))) = (find(&self.durable, path), self.split(path)) else {
            return false;
        };
        self.unsynced.retain(|change| change.subject != subject);
        for image in [&mut self.volatile, &mut self.durable] {
            image[directory].remove(name);
        }
        true
    }

    /// Whether names in a directory would be others after a power cut; `ignored` are those that do not count.
    pub(super) fn has_unsynced(&self, directory: usize, ignored: impl Fn(&str) -> bool) -> bool {
        let edits = self.unsynced.iter().flat_map(|change| &change.edits);
        edits.filter(|edit| edit.directory == directory).any(|edit| !ignored(&edit.name))
    }

    /// The directory a path's last name is in, and that name.
    fn split<'p>(&self, path: &'p str) -> io::Result<(usize, &'p str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.directory(parent)?, name))
    }

    pub(super) fn file(&self, path: &str) -> Option<usize> {
        match self.lookup(path)? {
            Node::File(file) => Some(file),
            Node::Directory(_) => None,
        }
    }

    pub(super) fn directory(&self, path: &str) -> io::Result<usize> {
        match self.lookup(path) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(super) fn exists(&self, path: &str) -> bool {
        self.lookup(path).is_some()
    }

    pub(super) fn list(&self, path: &str) -> io::Result<Vec<String>> {
        Ok(self.volatile[self.directory(path)?].keys().cloned().collect())
    }

    /// The files in a directory, by name.
    pub(super) fn files_in(&self, directory: usize) -> impl Iterator<Item = (&str, usize)> {
        self.volatile[directory].iter().filter_map(|(name, node)| match node {
            Node::File(file) => Some((name.as_str(), *file)),
            Node::Directory(_) => None,
        })
    }

    /// Every file that has a name.
    pub(super) fn files(&self) -> impl Iterator<Item = usize> {
        self.volatile.iter().flat_map(BTreeMap::values).filter_map(|node| match node {
            Node::File(file) => Some(*file),
            Node::Directory(_) => None,
        })
    }

    pub(super) fn create_file(&mut self, path: &str, file: usize) -> io::Result<()> {
        self.create(path, Node::File(file))
    }

    pub(super) fn create_dir(&mut self, path: &str) -> io::Result<()> {
        self.create(path, Node::Directory(self.volatile.len()))?;
        self.volatile.push(BTreeMap::new());
        self.durable.push(BTreeMap::new());
        Ok(())
    }

    fn create(&mut self, path: &str, node: Node) -> io::Result<()> {
        if self.exists(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (directory, name) = self.split(path)?;
        let name = name.to_owned();
        self.change(Change { edits: vec![Edit { directory, name, node: Some(node) }], subject: node });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let subject = self.lookup(from).ok_or(io::ErrorKind::NotFound)?;
        let ((from_directory, from), (to_directory, to)) = (self.split(from)?, self.split(to)?);
        let edits = vec![
            Edit { directory: from_directory, name: from.to_owned(), node: None },
            Edit { directory: to_directory, name: to.to_owned(), node: Some(subject) },
        ];
        self.change(Change { edits, subject });
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &str) -> io::Result<()> {
        let file = self.file(path).ok_or(io::ErrorKind::NotFound)?;
        self.remove(path, Node::File(file))
    }

    pub(super) fn remove_dir(&mut self, path: &str) -> io::Result<()> {
        let directory = self.directory(path)?;
        if !self.volatile[directory].is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.remove(path, Node::Directory(directory))
    }

    fn remove(&mut self, path: &str, subject: Node) -> io::Result<()> {
        let (directory, name) = self.split(path)?;
        self.change(Change { edits: vec![Edit { directory, name: name.to_owned(), node: None }], subject });
        Ok(())
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.volatile, &change);
        self.unsynced.push(change);
    }

    /// Changes that touch `directory` become durable, and with each the earlier ones to the same file.
    pub(super) fn sync(&mut self, directory: usize) {
        let touches = |change: &Change| change.edits.iter().any(|edit| edit.directory == directory);
        let unsynced = std::mem::take(&mut self.unsynced);
        for (at, change) in unsynced.iter().enumerate() {
            if unsynced[at..].iter().any(|later| later.subject == change.subject && touches(later)) {
                apply(&mut self.durable, change);
            } else {
                self.unsynced.push(change.clone());
            }
        }
    }

    /// Any of the unsynced changes survive, those of one file in order.
    pub(super) fn crash(&mut self, random: &mut Random) {
        let mut lost = BTreeSet::new();
        for change in std::mem::take(&mut self.unsynced) {
            if lost.contains(&change.subject) || !random.coin() {
                lost.insert(change.subject);
            } else {
                apply(&mut self.durable, &change);
            }
        }
        self.volatile = self.durable.clone();
    }
}

fn find(image: &Image, path: &str) -> Option<Node> {
    let mut node = Node::Directory(ROOT);
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let Node::Directory(directory) = node else { return None };
        node = *image.get(directory)?.get(name)?;
    }
    Some(node)
}

fn apply(image: &mut Image, change: &Change) {
    for Edit { directory, name, node } in &change.edits {
        let names = &mut image[*directory];
        match node {
            Some(node) => {
                names.insert(name.clone(), *node);
            }
            // Another file may have taken the name by a change that survived while an earlier one did not.
            None if names.get(name) == Some(&change.subject) => {
                names.remove(name);
            }
            None => {}
        }
    }
}
