//! Reads an open event log across rotation. Takes reads at offsets; a reader that follows the file continues into the
//! next log after rotation, and one that starts over starts with the new log.

use std::{
    fs::File,
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// The place at which `file` begins: the logs before it were so long.
    base: u64,
    read_to: u64,
}

/// Opens the event log, without waiting and without following a symlink.
pub(super) fn open(path: &Path) -> io::Result<File> {
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

impl Log {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: open(path)?, base: 0, read_to: 0 })
    }

    pub(super) fn read(&mut self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        let end = self.end()?;
        if (offset == 0 || offset >= end) && self.is_set_aside() {
            self.file = open(&self.path)?;
            self.base = if offset == 0 { 0 } else { end };
        }
        if offset < self.base {
            self.base = 0;
        }
        let mut bytes = vec![0; size];
        let read = std::os::unix::fs::FileExt::read_at(&self.file, &mut bytes, offset - self.base)?;
        bytes.truncate(read);
        self.read_to = offset + read as u64;
        Ok(bytes)
    }

    /// Whether there is something that was not read.
    pub(super) fn has_more(&self) -> io::Result<bool> {
        let begun = || std::fs::symlink_metadata(&self.path).is_ok_and(|next| next.len() > 0);
        Ok(self.end()? > self.read_to || self.is_set_aside() && begun())
    }

    fn end(&self) -> io::Result<u64> {
        Ok(self.base + self.file.metadata()?.len())
    }

    fn is_set_aside(&self) -> bool {
        let inode = |meta: io::Result<std::fs::Metadata>| meta.map(|meta| (meta.dev(), meta.ino())).ok();
        let now = inode(std::fs::symlink_metadata(&self.path));
        now.is_some() && now != inode(self.file.metadata())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_follow_into_the_next_log() {
        let temp = tempfile::tempdir().expect("a directory");
        let path = temp.path().join("events.jsonl");
        let text = |log: &mut Log, at: u64| String::from_utf8(log.read(at, 100).expect("read")).expect("text");
        std::fs::write(&path, "one\n").expect("written");
        let (mut follows, mut behind) = (Log::open(&path).expect("open"), Log::open(&path).expect("open"));
        assert_eq!((text(&mut follows, 0), text(&mut follows, 4)), ("one\n".to_owned(), String::new()));
        assert!(!follows.has_more().expect("known") && behind.has_more().expect("known"));

        std::fs::rename(&path, temp.path().join("events.1.jsonl")).expect("renamed");
        assert_eq!(text(&mut follows, 4), "", "before the next one is begun");
        std::fs::write(&path, "").expect("written");
        assert!(!follows.has_more().expect("known"));
        std::fs::write(&path, "two\n").expect("written");
        assert!(follows.has_more().expect("known"));
        assert_eq!((text(&mut follows, 4), text(&mut follows, 8)), ("two\n".to_owned(), String::new()));
        // `tail -f` sees a shorter file and begins again.
        assert_eq!((text(&mut follows, 0), text(&mut follows, 4)), ("two\n".to_owned(), String::new()));
        // Who was in the middle reads its end first.
        assert_eq!((text(&mut behind, 2), text(&mut behind, 4)), ("e\n".to_owned(), "two\n".to_owned()));
    }
}
