//! Running labs, as `lodestone lab check` finds them: each writes its addresses to a file in its directory.

use super::{
    ask::{ask, client_address},
    outside::Addresses,
    scratch,
};
use anyhow::{Context, bail};
use hickory_proto::rr::RecordType;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// File name. Not `.json`: the sample's directory is also that of its manifests.
pub const FILE: &str = "lab.state";
/// Its name when the lab has ended and its directory is kept.
const ENDED: &str = "lab.ended";
/// Maximum size of the file in bytes: three paths and a few addresses.
const MAX_SIZE: u64 = 16_384;
/// Maximum number of directories that are searched.
const MAX_DIRECTORIES: usize = 256;
/// How long a lab may take to answer before it is regarded as gone.
const PATIENCE: Duration = Duration::from_secs(2);

/// A lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunningLab {
    /// Its listen address.
    pub address: SocketAddr,
    /// Its Corefile.
    pub corefile: PathBuf,
    /// Its manifests.
    pub manifests: PathBuf,
    /// Whether these are the sample.
    pub sample: bool,
    /// The name servers outside of its cluster.
    pub outside: Addresses,
}

impl RunningLab {
    /// The content of its file.
    pub fn to_text(&self) -> anyhow::Result<String> {
        let text = serde_json::to_string_pretty(self).context("a path is not UTF-8")?;
        Ok(text + "\n")
    }

    /// Writes its file.
    pub fn begin(&self, directory: &Path) -> anyhow::Result<()> {
        let path = directory.join(FILE);
        let written = fs::write(&path, self.to_text()?);
        written.with_context(|| format!("cannot write {}", path.display()))?;
        // Absent after a lab that was killed.
        let _ = fs::remove_file(directory.join(ENDED));
        Ok(())
    }

    /// Keeps its file for a later lab in the same directory.
    pub fn end(&self, directory: &Path) -> anyhow::Result<()> {
        let path = directory.join(ENDED);
        let written = fs::write(&path, self.to_text()?);
        written.with_context(|| format!("cannot write {}", path.display()))?;
        // The user may have removed it.
        let _ = fs::remove_file(directory.join(FILE));
        Ok(())
    }

    /// The lab that has ended in this directory, if any. An error if it is still running.
    pub fn ended(directory: &Path) -> anyhow::Result<Option<Self>> {
        if let Some(lab) = Self::read(directory, ENDED) {
            return Ok(Some(lab));
        }
        match Self::read(directory, FILE) {
            Some(lab) if lab.answers() => bail!(
                "the lab in {} is running, at {}",
                directory.display(),
                lab.address
            ),
            lab => Ok(lab),
        }
    }

    /// The lab of a directory, its own or that of its manifests. Without one: the lab of the working directory,
    /// otherwise the only running one.
    pub fn find(directory: Option<&Path>) -> anyhow::Result<Self> {
        let here = directory.unwrap_or(Path::new("."));
        if let Some(lab) = Self::read(here, FILE) {
            if !lab.answers() {
                bail!(
                    "the lab of {} does not answer at {}; is it still running?",
                    lab.corefile.display(),
                    lab.address
                );
            }
            return Ok(lab);
        }
        let mut labs = Self::all();
        if let Some(directory) = directory {
            let shown = directory.display();
            let wanted = fs::canonicalize(directory)
                .with_context(|| format!("cannot read the directory {shown}"))?;
            let serves = |lab: &Self| fs::canonicalize(&lab.manifests).is_ok_and(|it| it == wanted);
            labs.retain(serves);
            if labs.is_empty() {
                bail!(
                    "no lab serves {shown}. Start one in another terminal: lodestone lab {shown}"
                );
            }
        }
        match (labs.pop(), labs.is_empty()) {
            (None, _) => bail!("no lab is running. Start one in another terminal: lodestone lab"),
            (Some(lab), true) => Ok(lab),
            (Some(lab), false) => {
                labs.push(lab);
                let list = labs.iter().filter_map(|lab| lab.corefile.parent());
                let list: Vec<String> = list.map(|it| format!("\n  {}", it.display())).collect();
                bail!(
                    "several labs are running. Name the directory of one after the number, or change to \
                     it:{}",
                    list.concat()
                );
            }
        }
    }

    /// The lab in a file of a directory.
    fn read(directory: &Path, name: &str) -> Option<Self> {
        let file = File::open(directory.join(name)).ok()?;
        let mut text = String::new();
        file.take(MAX_SIZE).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// All labs of this user that answer. Directories of other users cannot be read.
    fn all() -> Vec<Self> {
        let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten();
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let is_lab = |path: &PathBuf| {
            let name = path.file_name().and_then(|it| it.to_str());
            name.is_some_and(|it| it.starts_with(scratch::PREFIX))
        };
        let mut labs: Vec<Self> = paths
            .filter(is_lab)
            .take(MAX_DIRECTORIES)
            .filter_map(|path| Self::read(&path, FILE))
            .collect();
        // In parallel: each lab that is gone without removing its file may cost a timeout.
        let answers: Vec<bool> = std::thread::scope(|scope| {
            let asked: Vec<_> = labs.iter().map(|it| scope.spawn(|| it.answers())).collect();
            asked
                .into_iter()
                .map(|it| it.join().unwrap_or(false))
                .collect()
        });
        let mut answers = answers.into_iter();
        labs.retain(|_| answers.next() == Some(true));
        labs
    }

    /// Whether something answers at its address, whatever it answers.
    fn answers(&self) -> bool {
        let server = client_address(self.address);
        ask(server, "cluster.local.", RecordType::SOA, PATIENCE).is_ok()
    }
}
