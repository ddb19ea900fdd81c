//! Certificates for servers of the tests, and the authority that signed them,
//! made by the openssl command.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A certificate for one host.
pub(crate) struct Certificates {
    dir: TempDir,
}

impl Certificates {
    /// Makes them for a host by name; `None`: there is no openssl here.
    pub(crate) fn of(host: &str) -> Option<Self> {
        let made = Self { dir: tempfile::tempdir().unwrap() };
        let extensions = format!("subjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\n");
        fs::write(made.dir.path().join("extensions"), extensions).unwrap();
        let all = made.openssl("req -new -x509 -days 2 -nodes -subj /CN=authority -out ca.crt -keyout ca.key")
            && made.openssl(&format!("req -new -nodes -subj /CN={host} -out server.csr -keyout server.key"))
            && made.openssl(
                "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out server.crt",
            );
        if !all {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "openssl is missing");
            println!("skipped: openssl is not installed");
            return None;
        }
        Some(made)
    }

    fn openssl(&self, arguments: &str) -> bool {
        let mut command = Command::new("openssl");
        command.current_dir(self.dir.path()).args(arguments.split(' ')).stderr(Stdio::null()).stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// The certificate of the authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.path().join("ca.crt")
    }

    /// The certificate of the server.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("server.crt")
    }

    /// Its private key.
    pub(crate) fn key(&self) -> PathBuf {
        self.dir.path().join("server.key")
    }
}
