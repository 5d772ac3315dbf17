//! A file system in an image file, whose power can be cut.
//!
//! The cut is the file system's own shutdown request: from that moment nothing reaches the image any more, neither
//! dirty pages nor the journal's open transaction, and every write and sync returns an error. What the next mount
//! finds is what had been synced, and any part of the rest. What it does not take away is what the device itself was
//! given and not told to flush: a cut of the device's own cache is not imitated.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::ioctl::{Setter, ioctl, opcode};

use crate::command;
use crate::error::RigError;

/// `FS_IOC_SHUTDOWN`, as ext4, XFS and others take it.
const SHUTDOWN: rustix::ioctl::Opcode = opcode::read::<u32>(b'X', 125);
/// Without flushing the journal: the real thing.
const WITHOUT_LOG_FLUSH: u32 = 2;

/// The longest time for an unmounted file system to end.
const END_TIME_MAX: Duration = Duration::from_secs(60);

/// What an image is formatted with, and how it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4 as distributions mount it: file data is written before the metadata that refers to it.
    Ext4,
    /// ext4 with `data=writeback`: metadata may become durable before the data it refers to.
    Ext4Writeback,
    /// XFS.
    Xfs,
}

impl FileSystem {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Ext4, Self::Ext4Writeback, Self::Xfs];

    /// As it is asked for on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4Writeback => "ext4-writeback",
            Self::Xfs => "xfs",
        }
    }

    /// The program that formats it.
    #[must_use]
    pub fn formatter(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4Writeback => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
        }
    }

    fn mount_options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Xfs => "loop",
            Self::Ext4Writeback => "loop,data=writeback",
        }
    }
}

impl std::str::FromStr for FileSystem {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|known| known.name() == name);
        found.ok_or_else(|| format!("no file system {name:?} is known here: give one of {}", names()))
    }
}

/// A mounted image. Dropping it unmounts it; the workspace removes its files.
#[derive(Debug)]
pub struct Volume {
    file_system: FileSystem,
    image: PathBuf,
    mount_point: PathBuf,
    is_mounted: bool,
}

impl Volume {
    /// Formats an image of `bytes` at `directory/NAME.image` and mounts it at `directory/NAME`.
    ///
    /// # Errors
    /// A program of the machine refused.
    pub fn create(
        directory: &Path,
        name: &str,
        file_system: FileSystem,
        bytes: u64,
    ) -> Result<Self, RigError> {
        let image = directory.join(format!("{name}.image"));
        let mount_point = directory.join(name);
        fs::create_dir_all(&mount_point).map_err(RigError::file(&mount_point))?;
        let file = File::create(&image).map_err(RigError::file(&image))?;
        file.set_len(bytes).map_err(RigError::file(&image))?;
        command::run(Command::new(file_system.formatter()).arg("-q").arg(&image))?;
        let mut volume = Self { file_system, image, mount_point, is_mounted: false };
        volume.mount()?;
        Ok(volume)
    }

    /// Where its files are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Mounts it; the file system replays its journal.
    ///
    /// # Errors
    /// `mount` refused.
    pub fn mount(&mut self) -> Result<(), RigError> {
        let mut mount = Command::new("mount");
        let kind = if self.file_system == FileSystem::Xfs { "xfs" } else { "ext4" };
        mount.args(["-t", kind, "-o", self.file_system.mount_options()]);
        command::run(mount.arg(&self.image).arg(&self.mount_point))?;
        self.is_mounted = true;
        Ok(())
    }

    /// Unmounts it, and waits until the file system has ended: where another process's mount namespace still holds a copy
    /// of the mount, the next one would only bring back the old file system, dead from its cut. Nobody may have a file
    /// open on it.
    ///
    /// # Errors
    /// `umount` refused, or somebody held on to the mount.
    pub fn unmount(&mut self) -> Result<(), RigError> {
        if !self.is_mounted {
            return Ok(());
        }
        command::run(Command::new("umount").arg(&self.mount_point))?;
        self.is_mounted = false;
        let deadline = Instant::now() + END_TIME_MAX;
        while has_loop_device(&self.image) {
            if Instant::now() > deadline {
                let said = "another mount namespace holds on to it".to_owned();
                return Err(RigError::Command {
                    command: format!("umount {}", self.mount_point.display()),
                    said,
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What its power is cut with: held ready, so that several volumes can be cut at the same moment.
    ///
    /// # Errors
    /// The mount point cannot be opened.
    pub fn switch(&self) -> Result<PowerSwitch, RigError> {
        let root = File::open(&self.mount_point).map_err(RigError::file(&self.mount_point))?;
        Ok(PowerSwitch { root, path: self.mount_point.clone() })
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            eprintln!("{error}");
        }
    }
}

/// Whether a loop device stands for an image: it goes with the file system that was mounted on it.
fn has_loop_device(image: &Path) -> bool {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let backing = |device: fs::DirEntry| fs::read_to_string(device.path().join("loop/backing_file")).ok();
    devices.filter_map(backing).any(|file| Path::new(file.trim_end()) == image)
}

/// Cuts the power of one volume. While it is held, the volume cannot be unmounted.
#[derive(Debug)]
pub struct PowerSwitch {
    root: File,
    path: PathBuf,
}

impl PowerSwitch {
    /// Cuts it.
    ///
    /// # Errors
    /// The file system does not know the request, or this user may not make it.
    pub fn cut(self) -> Result<(), RigError> {
        #[allow(unsafe_code, reason = "rustix knows no safe form of this request")]
        // SAFETY: the request reads one u32 from where its argument points, and `Setter` points it to one.
        let result = unsafe { ioctl(&self.root, Setter::<SHUTDOWN, u32>::new(WITHOUT_LOG_FLUSH)) };
        result.map_err(|error| RigError::File { path: self.path, source: error.into() })
    }
}

/// Cuts all at once, as near as threads come to that.
///
/// # Errors
/// The first refusal.
pub fn cut_all(switches: Vec<PowerSwitch>) -> Result<(), RigError> {
    let together = std::sync::Barrier::new(switches.len());
    let cut = |switch: PowerSwitch| {
        together.wait();
        switch.cut()
    };
    std::thread::scope(|scope| {
        let cuts: Vec<_> = switches.into_iter().map(|switch| scope.spawn(|| cut(switch))).collect();
        cuts.into_iter().try_for_each(|cut| cut.join().unwrap_or(Err(RigError::Interrupted)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_number_of_the_kernels_header() {
        assert_eq!(SHUTDOWN, 0x8004_587d);
    }

    #[test]
    fn file_systems_go_by_their_names_and_others_are_refused_with_the_list() {
        for known in FileSystem::ALL {
            assert_eq!(known.name().parse(), Ok(known));
        }
        let refused = "btrfs".parse::<FileSystem>().unwrap_err();
        assert!(refused.contains("ext4, ext4-writeback, xfs"), "{refused}");
    }
}
