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

/// What the openssl command takes as the settings of an authority.
const AUTHORITY: &str = "[ca]\ndefault_ca=it\n[it]\ndatabase=index\nnew_certs_dir=.\nserial=serial\n\
                         default_md=sha256\npolicy=any\nx509_extensions=server\n[any]\ncommonName=supplied\n";
/// Days that are to come, and days that are over.
const VALID: &str = "-days 2";
const EXPIRED: &str = "-startdate 20200101000000Z -enddate 20200102000000Z";

impl Certificates {
    /// Makes them for a host by name; `None`: there is no openssl here.
    pub(crate) fn of(host: &str) -> Option<Self> {
        Self::made(host, VALID)
    }

    /// The same, with one that is no longer valid.
    pub(crate) fn expired(host: &str) -> Option<Self> {
        Self::made(host, EXPIRED)
    }

    fn made(host: &str, validity: &str) -> Option<Self> {
        let made = Self { dir: tempfile::tempdir().unwrap() };
        let extensions = format!("[server]\nsubjectAltName=DNS:{host}\nbasicConstraints=CA:FALSE\n");
        for (name, text) in [("settings", format!("{AUTHORITY}{extensions}").as_str()), ("index", ""), ("serial", "01")]
        {
            fs::write(made.dir.path().join(name), text).unwrap();
        }
        // Each authority has a name of its own: else one would be taken for the other.
        let name = made.dir.path().file_name().unwrap().display().to_string();
        let all = made.openssl(&format!("req -new -x509 -days 2 -nodes -subj /CN={name} -out ca.crt -keyout ca.key"))
            && made.openssl(&format!("req -new -nodes -subj /CN={host} -out server.csr -keyout server.key"))
            && made.openssl(&format!(
                "ca -batch -notext -config settings -cert ca.crt -keyfile ca.key {validity} -in server.csr -out server.crt"
            ));
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
