//! Loss and damage of objects in a bucket.

use std::fs;

use anyhow::Context as _;

use super::bucket_contents::{BucketContents, is_a};
use super::runner::ScheduleRunner;
use super::schedule::{BucketName, ObjectKind};

impl ScheduleRunner {
    pub(super) fn lose(&mut self, which: BucketName) -> anyhow::Result<()> {
        let root = self.site.bucket(which).objects.clone();
        let above = root.parent().context("a bucket has a directory")?;
        for entry in fs::read_dir(above)?.flatten() {
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
        self.lost = true;
        Ok(())
    }

    pub(super) fn damage(
        &mut self,
        which: Option<BucketName>,
        deleted: bool,
        of: ObjectKind,
        pick: u64,
    ) -> anyhow::Result<()> {
        let both = BucketContents::of(
            &self.site,
            &[BucketName::Near, BucketName::Far],
            &self.damaged,
        );
        let keys: Vec<String> = both.keys().filter(|key| is_a(of, key)).cloned().collect();
        let place = usize::try_from(pick % (keys.len().max(1) as u64))?;
        let Some(key) = keys.get(place) else {
            return Ok(());
        };
        let places = [BucketName::Near, BucketName::Far].into_iter();
        for place in places.filter(|place| which.is_none_or(|which| which == *place)) {
            let found = self.site.bucket(place).keys();
            let Some((_, path)) = found.into_iter().find(|(it, _)| it == key) else {
                continue;
            };
            if deleted {
                fs::remove_file(&path)?;
                self.lost = true;
            } else {
                let mut bytes = fs::read(&path)?;
                let at = usize::try_from((pick >> 16) % (bytes.len().max(1) as u64))?;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1;
                }
                fs::write(&path, bytes)?;
                self.damaged.insert((place, key.clone()));
            }
            self.tell(format!("`{key}` in {place}"));
        }
        Ok(())
    }
}
