//! What is measured: the product, variants of it, and peers, each found or built here.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::launch::{LAUNCHER, Program};

/// A server that can be started.
pub struct Target {
    pub name: String,
    pub role: Role,
    pub version: String,
    pub traits: Traits,
    program: Start,
}

type Start = Box<dyn Fn(&Setup) -> Result<Program>>;
type Make = fn(&Workshop) -> Result<Target>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// scratch-server, or a variant of it.
    Ours,
    Peer,
    /// Not a server that anyone would run: what the kernel alone costs.
    Floor,
}

/// What a target can do, so that no part measures what it cannot.
#[derive(Clone, Copy)]
pub struct Traits {
    pub keep_alive: bool,
    /// Serves connections side by side, thousands of them.
    pub concurrent: bool,
    /// Takes the number of its event-loop threads or processes.
    pub workers: bool,
    /// Writes a line to stderr when it listens.
    pub announces: bool,
}

const EVENT_LOOP: Traits = Traits {
    keep_alive: true,
    concurrent: true,
    workers: true,
    announces: true,
};

/// How to start a target.
pub struct Setup<'a> {
    pub port: u16,
    pub workers: usize,
    /// More than the thousand that every server takes as it comes.
    pub many_connections: bool,
    /// Peers stay silent unless asked; scratch-server always says that it is up.
    pub announce: bool,
    /// For configuration files and what the server writes.
    pub directory: &'a Path,
}

impl Target {
    pub fn program(&self, setup: &Setup) -> Result<Program> {
        fs::create_dir_all(setup.directory)?;
        // The whole environment: nothing of the caller's reaches a target.
        let mut program = (self.program)(setup)?
            .env(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("PORT", setup.port)
            .env("WORKERS", setup.workers);
        if setup.announce {
            program = program.env("ANNOUNCE", 1);
        }
        Ok(program)
    }

    /// scratch-server, from a binary that nothing replaces while it is measured.
    pub fn ours(name: &str, binary: &Path, shop: &Workshop) -> Result<Self> {
        let binary = shop.keep(name, binary)?;
        let version = format!("{} bytes", fs::metadata(&binary)?.len());
        Ok(Self {
            name: name.to_owned(),
            role: Role::Ours,
            version,
            traits: EVENT_LOOP,
            program: Box::new(move |setup| {
                let program =
                    Program::new(&binary).env("LISTEN", format!("127.0.0.1:{}", setup.port));
                Ok(if setup.many_connections {
                    program.env("MAX_CONNECTIONS", 20_000)
                } else {
                    program
                })
            }),
        })
    }
}

/// Every peer, in the order of the tables. The error of a peer says what is missing.
pub const PEERS: &[(&str, Make)] = &[
    ("c-epoll", |shop| floor(shop, "c-epoll", "epoll", true)),
    ("c-blocking", |shop| {
        floor(shop, "c-blocking", "blocking", false)
    }),
    ("hyper", |shop| rust(shop, "hyper", "hyper", Libc::Musl)),
    ("axum", |shop| rust(shop, "axum", "axum", Libc::Musl)),
    ("actix-web", |shop| {
        rust(shop, "actix-web", "actix-web", Libc::Musl)
    }),
    // musl's allocator is slow; whoever runs actix-web for its throughput uses another libc.
    ("actix-web-glibc", |shop| {
        rust(shop, "actix-web-glibc", "actix-web", Libc::Host)
    }),
    ("nginx", nginx),
    ("lighttpd", lighttpd),
    ("busybox", busybox),
    ("go", go),
    ("node", node),
    ("python", python),
];

fn floor(shop: &Workshop, name: &str, source: &str, concurrent: bool) -> Result<Target> {
    let binary = shop.build_c(source)?;
    Ok(Target {
        name: name.to_owned(),
        role: Role::Floor,
        version: format!("static, {}", c_compiler()),
        traits: Traits {
            concurrent,
            workers: false,
            ..EVENT_LOOP
        },
        program: Box::new(move |_| Ok(Program::new(&binary))),
    })
}

enum Libc {
    Musl,
    Host,
}

fn rust(shop: &Workshop, name: &str, krate: &str, libc: Libc) -> Result<Target> {
    let target = match libc {
        Libc::Musl => shop.musl_target.clone(),
        Libc::Host => {
            ensure!(
                shop.musl_target.ends_with("-musl"),
                "is the same as {krate}: no musl target is installed"
            );
            shop.host_target.clone()
        }
    };
    let binary = shop.keep(name, &shop.build_rust(&format!("peer-{krate}"), &target)?)?;
    Ok(Target {
        name: name.to_owned(),
        role: Role::Peer,
        version: format!("{} {target}", locked_version(krate)),
        traits: EVENT_LOOP,
        program: Box::new(move |_| Ok(Program::new(&binary))),
    })
}

fn nginx(_: &Workshop) -> Result<Target> {
    let path = find("nginx")?;
    Ok(Target {
        name: "nginx".to_owned(),
        role: Role::Peer,
        version: first_line(&path, &["-v"]),
        traits: Traits {
            announces: false,
            ..EVENT_LOOP
        },
        program: Box::new(move |setup| {
            // Workers that share a socket are woken together: nginx advises a socket each.
            let reuseport = if setup.workers > 1 { " reuseport" } else { "" };
            let text = include_str!("../peers/nginx.conf").replace("{reuseport}", reuseport);
            let config = configure(&text, "nginx.conf", setup.workers, setup)?;
            Ok(Program::new(&path).args([
                "-p".into(),
                setup.directory.into(),
                "-c".into(),
                config.into_os_string(),
                // Its compiled-in log may not be writable.
                "-e".into(),
                "stderr".into(),
            ]))
        }),
    })
}

fn lighttpd(_: &Workshop) -> Result<Target> {
    let path = find("lighttpd")?;
    Ok(Target {
        name: "lighttpd".to_owned(),
        role: Role::Peer,
        version: first_line(&path, &["-v"]),
        traits: Traits {
            announces: false,
            ..EVENT_LOOP
        },
        program: Box::new(move |setup| {
            write_site(setup.directory)?;
            // With one worker it serves from the first process: that is its 0.
            let workers = if setup.workers == 1 { 0 } else { setup.workers };
            let config = configure(
                include_str!("../peers/lighttpd.conf"),
                "lighttpd.conf",
                workers,
                setup,
            )?;
            Ok(Program::new(&path).args(["-D".into(), "-f".into(), config.into_os_string()]))
        }),
    })
}

fn busybox(_: &Workshop) -> Result<Target> {
    let path = find("busybox")?;
    ensure!(
        Command::new(&path)
            .args(["httpd", "--help"])
            .output()?
            .status
            .success(),
        "has no httpd"
    );
    Ok(Target {
        name: "busybox".to_owned(),
        role: Role::Peer,
        version: first_line(&path, &[]),
        // One process a connection, one request a connection.
        traits: Traits {
            keep_alive: false,
            concurrent: false,
            workers: false,
            announces: false,
        },
        program: Box::new(move |setup| {
            write_site(setup.directory)?;
            let address = format!("127.0.0.1:{}", setup.port);
            Ok(Program::new(&path)
                .args(["httpd", "-f", "-p", &address, "-h"])
                .args([setup.directory]))
        }),
    })
}

fn go(shop: &Workshop) -> Result<Target> {
    let compiler = find("go")?;
    let binary = shop.directory.join("peer-go");
    let mut build = Command::new(&compiler);
    build
        .current_dir(shop.bench.join("peers/go"))
        .args(["build", "-trimpath", "-ldflags=-s -w", "-o"])
        .arg(&binary)
        .env("CGO_ENABLED", "0")
        // It needs a cache directory, and nothing from the network.
        .env("GOCACHE", shop.bench.join("target/go"))
        .env("GOFLAGS", "-mod=mod")
        .env("GOPROXY", "off");
    run(&mut build)?;
    Ok(Target {
        name: "go".to_owned(),
        role: Role::Peer,
        version: first_line(&compiler, &["version"]),
        traits: EVENT_LOOP,
        program: Box::new(move |setup| Ok(Program::new(&binary).env("GOMAXPROCS", setup.workers))),
    })
}

fn node(shop: &Workshop) -> Result<Target> {
    let path = find("node")?;
    let script = shop.bench.join("peers/node.js");
    Ok(Target {
        name: "node".to_owned(),
        role: Role::Peer,
        version: first_line(&path, &["--version"]),
        traits: Traits {
            workers: false,
            ..EVENT_LOOP
        },
        program: Box::new(move |_| Ok(Program::new(&path).args([&script]))),
    })
}

fn python(shop: &Workshop) -> Result<Target> {
    // The first of PATH may be a script that picks a version: measure the interpreter itself.
    let wrapper = find("python3")?;
    let path = PathBuf::from(first_line(
        &wrapper,
        &["-c", "import sys; print(sys.executable)"],
    ));
    let script = shop.bench.join("peers/http_server.py");
    Ok(Target {
        name: "python".to_owned(),
        role: Role::Peer,
        version: first_line(&path, &["--version"]),
        // A thread a connection: not for thousands.
        traits: Traits {
            keep_alive: true,
            concurrent: false,
            workers: false,
            announces: true,
        },
        program: Box::new(move |_| Ok(Program::new(&path).args([&script]))),
    })
}

/// Where things are built, and private copies kept.
pub struct Workshop {
    pub bench: PathBuf,
    pub directory: PathBuf,
    /// The static target of the image, or the host's where it is not installed.
    pub musl_target: String,
    host_target: String,
}

impl Workshop {
    pub fn open() -> Result<Self> {
        let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let host_target = rustc(&["-vV"])?
            .lines()
            .find_map(|line| line.strip_prefix("host: ").map(str::to_owned))
            .context("rustc named no host")?;
        let musl = format!("{}-unknown-linux-musl", env::consts::ARCH);
        let installed =
            PathBuf::from(rustc(&["--print", "target-libdir", "--target", &musl])?.trim()).exists();
        remove_leftovers(&bench.join("target"));
        let directory = bench
            .join("target")
            .join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let shop = Self {
            bench,
            directory,
            musl_target: if installed { musl } else { host_target.clone() },
            host_target,
        };
        let launcher = shop.keep("launcher", &shop.build_rust("launcher", &shop.musl_target)?)?;
        LAUNCHER.set(launcher).expect("there is one workshop");
        Ok(shop)
    }

    /// Builds both of the product's binaries as the image does, and says where they are.
    pub fn build_product(&self) -> Result<(PathBuf, PathBuf)> {
        let root = self.bench.parent().context("bench/ is in the repository")?;
        self.cargo(
            root,
            &[
                "build",
                "--release",
                "--workspace",
                "--target",
                &self.musl_target,
            ],
        )?;
        let built = root.join("target").join(&self.musl_target).join("release");
        Ok((built.join("server"), built.join("healthcheck")))
    }

    /// Builds a package of the benchmark's own workspace.
    pub fn build_rust(&self, package: &str, target: &str) -> Result<PathBuf> {
        let args = [
            "build",
            "--profile",
            "peer",
            "--package",
            package,
            "--target",
            target,
        ];
        self.cargo(&self.bench, &args)?;
        Ok(self
            .bench
            .join("target")
            .join(target)
            .join("peer")
            .join(package))
    }

    /// Copies a binary to where no build replaces it.
    pub fn keep(&self, name: &str, binary: &Path) -> Result<PathBuf> {
        let copy = self.directory.join(format!("bin-{name}"));
        fs::copy(binary, &copy).with_context(|| format!("{}", binary.display()))?;
        Ok(copy)
    }

    pub fn build_c(&self, source: &str) -> Result<PathBuf> {
        let binary = self.directory.join(format!("floor-{source}"));
        let source = self
            .bench
            .join("peers/floor")
            .join(source)
            .with_extension("c");
        run(Command::new(c_compiler())
            .args(["-static", "-O2", "-s", "-o"])
            .arg(&binary)
            .arg(source))?;
        Ok(binary)
    }

    fn cargo(&self, directory: &Path, args: &[&str]) -> Result<()> {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // From the environment it would replace the flags of .cargo/config.toml, +crt-static among them.
        cargo
            .current_dir(directory)
            .args(args)
            .args(["--quiet", "--locked"])
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR");
        run(&mut cargo)
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The C compiler whose floors are floors: with another libc they start in twice the time.
pub const MUSL_GCC: &str = "musl-gcc";

/// [`MUSL_GCC`], or else the one of the host.
pub fn c_compiler() -> &'static str {
    find(MUSL_GCC).map_or("cc", |_| MUSL_GCC)
}

/// Of runs that were killed.
fn remove_leftovers(target: &Path) {
    for entry in fs::read_dir(target).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("run-"));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A program of PATH, or of the directories of servers, which PATH often leaves out.
pub fn find(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|path| {
            path.metadata()
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
        .with_context(|| format!("{name} is not installed"))
}

/// What a program says about its version, on whichever stream.
pub fn first_line(path: &Path, args: &[&str]) -> String {
    let Ok(output) = Command::new(path).args(args).output() else {
        return String::new();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn configure(text: &str, name: &str, workers: usize, setup: &Setup) -> Result<PathBuf> {
    let values = BTreeMap::from([
        ("{port}", setup.port.to_string()),
        ("{workers}", workers.to_string()),
        // nginx sets aside memory for each at start.
        (
            "{connections}",
            if setup.many_connections {
                "20000"
            } else {
                "1024"
            }
            .to_owned(),
        ),
        ("{directory}", setup.directory.display().to_string()),
    ]);
    let text = values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    });
    let path = setup.directory.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

fn write_site(directory: &Path) -> Result<()> {
    fs::write(directory.join("index.html"), "Hello from Rust in Docker!\n")?;
    fs::write(directory.join("health"), "healthy")?;
    Ok(())
}

fn locked_version(krate: &str) -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let version = lock
        .split_once(&format!("name = \"{krate}\"\nversion = \""))
        .map(|(_, rest)| rest);
    version
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
}

fn rustc(args: &[&str]) -> Result<String> {
    let output = Command::new("rustc").args(args).output().context("rustc")?;
    Ok(String::from_utf8(output.stdout)?)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_a_peer_comes_from_the_lock_file() {
        assert!(
            locked_version("axum").starts_with("0.8."),
            "{}",
            locked_version("axum")
        );
        assert_eq!(locked_version("no-such-crate"), "");
    }

    #[test]
    fn missing_program_is_named() {
        assert_eq!(
            find("no-such-program").unwrap_err().to_string(),
            "no-such-program is not installed"
        );
    }
}
