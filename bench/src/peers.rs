//! What is measured: the product, its variants, and the peers of `peers/peers.toml`, each found or built here.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{
    measure::process::Program,
    workshop::{Workshop, output},
};

/// A server of the suite, and how it is built and started.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub name: String,
    #[serde(default)]
    pub role: Role,
    #[serde(default)]
    build: Vec<String>,
    program: Option<String>,
    command: String,
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// A template, in `peers/`.
    file: Option<String>,
    version: String,
    #[serde(default)]
    pub traits: Vec<Trait>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// scratch-server, or a variant of it.
    Ours,
    #[default]
    Peer,
    /// Not a server that anyone would run: what the kernel alone costs.
    Floor,
}

/// What a target can do, so that no part measures what it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trait {
    KeepAlive,
    /// Serves connections side by side, thousands of them.
    Concurrent,
    /// Takes the number of its event-loop threads or processes.
    Workers,
}

/// A peer that is built.
pub struct Target {
    pub peer: Peer,
    pub version: String,
    /// What is filled in, whatever the start.
    values: Vec<(&'static str, String)>,
}

/// In the order of the tables.
pub fn all() -> Result<Vec<Peer>> {
    #[derive(Deserialize)]
    struct Peers {
        peer: Vec<Peer>,
    }
    let peers: Peers = toml::from_str(include_str!("../peers/peers.toml"))?;
    Ok(peers.peer)
}

impl Peer {
    /// scratch-server, from a copy that nothing replaces while it is measured.
    pub fn ours(name: &str, binary: &Path) -> Self {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            name: name.to_owned(),
            role: Role::Ours,
            build: vec![shell_words::join([
                "cp",
                &binary.to_string_lossy(),
                "{directory}/server",
            ])],
            program: None,
            command: "{directory}/server".to_owned(),
            env: [
                setting("LISTEN", "127.0.0.1:{port}"),
                setting("MAX_CONNECTIONS", "{connections}"),
            ]
            .into(),
            file: None,
            version: "stat --format '%s bytes' {directory}/server".to_owned(),
            traits: vec![Trait::KeepAlive, Trait::Concurrent, Trait::Workers],
        }
    }

    /// An error says what is missing.
    pub fn prepare(self, shop: &Workshop) -> Result<Target> {
        let directory = shop.directory().join(&self.name);
        let site = directory.join("site");
        fs::create_dir_all(&site)?;
        fs::write(site.join("index.html"), "Hello from Rust in Docker!\n")?;
        let mut values = shop.values();
        values.push(("{directory}", directory.display().to_string()));
        values.push(("{site}", site.display().to_string()));
        let run = |command: &str, values: &[(&str, String)]| {
            output(&mut shop.command(&fill(command, values))?)
        };
        for command in &self.build {
            run(command, &values)?;
        }
        if let Some(program) = &self.program {
            values.push(("{program}", run(program, &values)?));
        }
        let version = run(&self.version, &values).unwrap_or_default();
        let version = version.lines().next().unwrap_or_default().to_owned();
        Ok(Target {
            peer: self,
            version,
            values,
        })
    }
}

impl Target {
    pub fn can(&self, all: &[Trait]) -> bool {
        all.iter().all(|one| self.peer.traits.contains(one))
    }

    /// How to start it; `many_connections` are more than the thousand that every server takes as it comes.
    pub fn program(
        &self,
        shop: &Workshop,
        port: u16,
        workers: usize,
        many_connections: bool,
    ) -> Result<Program> {
        let mut values = self.values.clone();
        let is_one = workers == 1;
        values.extend([
            ("{port}", port.to_string()),
            ("{workers}", workers.to_string()),
            ("{threads}", if is_one { 0 } else { workers }.to_string()),
            (
                "{reuseport}",
                if is_one { "" } else { " reuseport" }.to_owned(),
            ),
            // nginx sets aside memory for each at start.
            (
                "{connections}",
                if many_connections { "20000" } else { "1000" }.to_owned(),
            ),
        ]);
        if let Some(file) = &self.peer.file {
            let template = fs::read_to_string(shop.bench.join("peers").join(file))?;
            fs::write(
                shop.directory().join(&self.peer.name).join(file),
                fill(&template, &values),
            )?;
        }
        // The whole environment: nothing of the caller's reaches a target, but the way to programs.
        let words = shell_words::split(&fill(&self.peer.command, &values))?;
        let program = Program {
            inherits: false,
            ..Program::from_words(&words)?
        };
        let program = program
            .env("PATH", std::env::var("PATH").context("PATH")?)
            .env("HOME", shop.directory().display());
        let program = program.env("PORT", port).env("WORKERS", workers);
        Ok(self
            .peer
            .env
            .iter()
            .fold(program, |program, (name, value)| {
                program.env(name, fill(value, &values))
            }))
    }
}

fn fill(text: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_well_formed_and_have_names_of_their_own() {
        let peers = all().unwrap();
        let names: std::collections::BTreeSet<_> = peers.iter().map(|peer| &peer.name).collect();
        assert!(names.len() == peers.len() && names.contains(&"c-epoll".to_owned()));
        let commands = peers
            .iter()
            .flat_map(|peer| peer.build.iter().chain([&peer.command, &peer.version]));
        assert!(
            commands
                .into_iter()
                .all(|command| shell_words::split(command).is_ok())
        );
    }
}
