//! Loss and damage of objects in a bucket.

use std::fs;

use anyhow::Context as _;

use super::bucket_contents::{BucketContents, is_of_kind};
use super::runner::ScheduleRunner;
use super::schedule::{BucketName, ObjectKind};

impl ScheduleRunner {
    /// Deletes every object of a bucket.
    pub(super) fn empty_bucket(&mut self, name: BucketName) -> anyhow::Result<()> {
        let root = self.sandbox.bucket(name).objects.clone();
        let parent = root.parent().context("a bucket has a directory")?;
        for entry in fs::read_dir(parent)?.flatten() {
            let path = entry.path();
            if path.is_dir() && path != root {
                continue;
            }
            if path == root {
                // A concurrent write may create files in the directory.
                while fs::remove_dir_all(&path).is_err() && path.exists() {}
                fs::create_dir_all(&path)?;
            } else if let Err(error) = fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error.into());
            }
        }
        self.objects_lost = true;
        Ok(())
    }

    /// Damages or deletes an object of a kind, in one bucket or both.
    pub(super) fn damage_object(
        &mut self,
        only: Option<BucketName>,
        deleted: bool,
        kind: ObjectKind,
        pick: u64,
    ) -> anyhow::Result<()> {
        let both = BucketContents::of(
            &self.sandbox,
            &[BucketName::Near, BucketName::Far],
            &self.damaged,
        );
        let keys: Vec<String> = both
            .keys()
            .filter(|key| is_of_kind(kind, key))
            .cloned()
            .collect();
        let index = usize::try_from(pick % (keys.len().max(1) as u64))?;
        let Some(key) = keys.get(index) else {
            return Ok(());
        };
        let names = [BucketName::Near, BucketName::Far].into_iter();
        for name in names.filter(|name| only.is_none_or(|only| only == *name)) {
            let objects = self.sandbox.bucket(name).keys();
            let Some((_key, path)) = objects.into_iter().find(|(found, _path)| found == key) else {
                continue;
            };
            if deleted {
                fs::remove_file(&path)?;
                self.objects_lost = true;
            } else {
                let mut bytes = fs::read(&path)?;
                let at = usize::try_from((pick >> 16) % (bytes.len().max(1) as u64))?;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1;
                }
                fs::write(&path, bytes)?;
                self.damaged.insert((name, key.clone()));
            }
            self.record_event(format!("`{key}` in {name}"));
        }
        Ok(())
    }
}
