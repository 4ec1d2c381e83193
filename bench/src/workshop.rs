//! Where the product and its peers are built.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::measure::process::{Program, find};

/// The C compiler whose floors are floors: with another libc they start in twice the time.
pub const MUSL_GCC: &str = "musl-gcc";

pub struct Workshop {
    pub bench: PathBuf,
    directory: TempDir,
    /// The static target of the image, or the host's where it is not installed.
    pub musl_target: String,
    host_target: String,
}

impl Workshop {
    pub fn open() -> Result<Self> {
        let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let about = output(Command::new("rustc").arg("-vV"))?;
        let host = about
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .context("rustc named no host")?;
        let musl = format!("{}-unknown-linux-musl", env::consts::ARCH);
        let library =
            output(Command::new("rustc").args(["--print", "target-libdir", "--target", &musl]))?;
        let target = bench.join("target");
        fs::create_dir_all(&target)
            .with_context(|| format!("{}: the parts need the repository", target.display()))?;
        Ok(Self {
            musl_target: if Path::new(&library).exists() {
                musl
            } else {
                host.to_owned()
            },
            host_target: host.to_owned(),
            directory: TempDir::with_prefix_in("run-", target)?,
            bench,
        })
    }

    /// For what lasts as long as the run.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What is filled into the commands of peers.
    pub fn values(&self) -> Vec<(&'static str, String)> {
        vec![
            ("{bench}", self.bench.display().to_string()),
            ("{peers}", self.bench.join("peers").display().to_string()),
            ("{musl}", self.musl_target.clone()),
            ("{host}", self.host_target.clone()),
            ("{cc}", c_compiler().to_owned()),
        ]
    }

    /// A command of the directory of the benchmark, without a shell.
    pub fn command(&self, text: &str) -> Result<Command> {
        let program = Program::from_words(&shell_words::split(text)?)?;
        let mut command = Command::new(program.path);
        // From the environment they would replace the flags of .cargo/config.toml, +crt-static among them.
        command
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR");
        command.args(program.args).current_dir(&self.bench);
        Ok(command)
    }

    /// Builds both of the product's binaries as the image does, and says where they are.
    pub fn build_product(&self) -> Result<(PathBuf, PathBuf)> {
        let root = self.bench.parent().context("bench/ is in the repository")?;
        let target = &self.musl_target;
        let build = format!("cargo build --quiet --locked --release --workspace --target {target}");
        output(self.command(&build)?.current_dir(root))?;
        let built = root.join("target").join(target).join("release");
        Ok((built.join("server"), built.join("healthcheck")))
    }

    pub fn build_c(&self, source: &str) -> Result<PathBuf> {
        let binary = self.directory().join(source);
        let compile = format!(
            "{} -static -O2 -s -o {} peers/floor/{source}.c",
            c_compiler(),
            binary.display()
        );
        output(&mut self.command(&compile)?).map(|_| binary)
    }

    /// Copies a binary to where no build replaces it.
    pub fn keep(&self, name: &str, binary: &Path) -> Result<PathBuf> {
        let copy = self.directory().join(format!("bin-{name}"));
        fs::copy(binary, &copy).with_context(|| format!("{}", binary.display()))?;
        Ok(copy)
    }
}

/// [`MUSL_GCC`], or else the one of the host.
pub fn c_compiler() -> &'static str {
    find(MUSL_GCC).map_or("cc", |_| MUSL_GCC)
}

/// What a command that has to succeed writes, to stdout first.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        text(&output.stderr)
    );
    let stdout = text(&output.stdout);
    Ok(if stdout.is_empty() {
        text(&output.stderr)
    } else {
        stdout
    })
}
