//! `gateway derive-key`: derives device keys from a group key, in the factory.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::PathBuf,
};

use azure_dps::{DeviceKey, GroupKey, RegistrationId};
use clap::Args;
use zeroize::Zeroizing;

use crate::{
    cli::{Key, registration_id},
    ids,
    values::is_stdin,
};

/// The longest output line of a device: an ID of at most 128 characters, a key of 44, and the JSON member names.
const LINE: usize = 256;

#[derive(Args)]
#[command(after_help = "\
Prints only the key if there is one --registration-id. Otherwise prints a line
for each device, in the given order: the registration ID, a tab, the key.

  AZURE_DPS_SYMMETRIC_KEY=… gateway derive-key --rid sn-007 > device.key
  seq -f 'sn-%03g' 1 500 | gateway derive-key --ids-file - \\
      --key-file group.key > keys.tsv

Each line of --ids-file is one registration ID. White space around an ID, blank
lines and lines that begin with # are ignored. A list has at most 100000 IDs.
No ID may occur twice, in upper or lower case.")]
pub struct DeriveKey {
    /// The device; may be repeated
    #[arg(long = "registration-id", visible_alias = "rid", value_name = "ID", value_parser = registration_id)]
    #[arg(required_unless_present = "ids_file")]
    registration_ids: Vec<String>,

    /// A file with the devices' registration IDs, one a line; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "registration_ids")]
    ids_file: Option<PathBuf>,

    #[command(flatten)]
    key: Key,

    /// Print one JSON object a line for each device: registrationId, symmetricKey
    #[arg(long)]
    json: bool,
}

impl DeriveKey {
    /// Checks the arguments. If one of the IDs is invalid, nothing is printed.
    pub fn check(&self) -> Result<Job, String> {
        if self.ids_file.as_deref().is_some_and(is_stdin) && self.key.is_on_stdin() {
            return Err("only one of key and IDs can come from standard input".to_owned());
        }
        let ids = match &self.ids_file {
            Some(file) => ids::read(file)?,
            None => self.registration_ids.clone(),
        };
        let format = match (self.json, &ids[..], &self.ids_file) {
            (true, ..) => Format::Json,
            (false, [_], None) => Format::KeyAlone,
            _ => Format::Table,
        };
        // Boxed, so that a move does not leave a copy of the key.
        let mut group_key = Box::new(GroupKey::new());
        self.key.read_group_key(&mut group_key)?;
        Ok(Job { ids, format, group_key })
    }
}

pub struct Job {
    ids: Vec<String>,
    format: Format,
    group_key: Box<GroupKey>,
}

enum Format {
    KeyAlone,
    Table,
    Json,
}

impl Job {
    /// Derives the keys, and prints them.
    pub fn run(&self) -> io::Result<()> {
        // `io::stdout` would keep a copy of the keys in its buffer.
        let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let mut line = Zeroizing::new(Vec::with_capacity(LINE));
        let mut key = DeviceKey::new();
        for id in &self.ids {
            let id = RegistrationId::new(id).map_err(io::Error::other)?;
            self.group_key.derive_into(&id, &mut key).map_err(io::Error::other)?;
            let mut text = Zeroizing::new([0; 44]);
            let key = key.write_base64(text.as_mut_slice()).map_err(io::Error::other)?;
            line.clear();
            match self.format {
                Format::KeyAlone => writeln!(line, "{key}")?,
                Format::Table => writeln!(line, "{id}\t{key}")?,
                // ID and key contain no character that JSON escapes.
                Format::Json => writeln!(line, r#"{{"registrationId":"{id}","symmetricKey":"{key}"}}"#)?,
            }
            output.write_all(&line)?;
        }
        Ok(())
    }
}
