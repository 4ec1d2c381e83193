//! `measure`: any servers, or any images.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
};

use anyhow::{Context, Result, ensure};

use crate::{
    Outcome,
    cli::{MeasureOptions, Named, split_name},
    measure::{
        client::{PORT, Url},
        cores::Cores,
        engine::Engine,
        process::Program,
        samples::Measured,
    },
    parts::{
        image::{self, Candidate},
        startup::{self, Plan, Server},
    },
    report::{self, gate, svg},
    statistics::FEWEST,
};

pub fn measure(options: &MeasureOptions) -> Result<Outcome> {
    let baseline = options
        .baseline
        .as_ref()
        .map(|path| -> Result<Measured> { Ok(serde_json::from_str(&fs::read_to_string(path)?)?) });
    let baseline = baseline
        .transpose()
        .context("--baseline: expected the --json of an earlier run")?;
    let gated = options.fail_above.is_none() || options.runs as usize >= FEWEST;
    ensure!(
        gated,
        "--fail-above needs a 95 % interval, and --runs {} has none: {FEWEST} is the fewest",
        options.runs
    );
    for path in [&options.json, &options.markdown, &options.svg]
        .into_iter()
        .flatten()
    {
        // Now rather than when all is measured.
        let file = OpenOptions::new().create(true).append(true).open(path);
        file.with_context(|| path.display().to_string())?;
    }
    let cores = Cores::choose(options.cores.server_core, options.cores.load_core)?;
    let measured = match options.images.is_empty() {
        true => measure_servers(options, cores)?,
        false => measure_images(options, &cores)?,
    };
    println!("{}", report::text(&measured));
    write_files(options, &measured)?;
    Ok(judge(options, &measured, baseline.as_ref()))
}

fn measure_servers(options: &MeasureOptions, cores: Cores) -> Result<Measured> {
    ensure_unique(&options.servers)?;
    let plan = Plan {
        rounds: options.runs as usize,
        warmup: options.warmup as usize,
        cold: options.cold,
        statuses: options.status.clone(),
        limit: options.timeout,
        cores,
    };
    let servers = options
        .servers
        .iter()
        .map(|named| server(named, options))
        .collect::<Result<Vec<_>>>()?;
    Ok(startup::measure(servers, &plan))
}

fn measure_images(options: &MeasureOptions, cores: &Cores) -> Result<Measured> {
    ensure_unique(&options.images)?;
    format!("http://127.0.0.1:1{}", options.path)
        .parse::<Url>()
        .context("--path")?;
    let plan = image::Plan {
        rounds: options.runs as usize,
        warmup: options.warmup as usize,
        statuses: options.status.clone(),
        limit: options.timeout,
        env: options.env.clone(),
        port: options.container_port,
        path: options.path.clone(),
    };
    let candidate = |Named { name, words }: Named| Candidate { name, words };
    let candidates = options.images.iter().cloned().map(candidate).collect();
    let engine = Engine::find(options.engine.as_deref(), cores);
    Ok(image::measure(engine, candidates, &plan))
}

/// Whether the command is there is found out when it is started, so that the others are still measured.
fn server(named: &Named, options: &MeasureOptions) -> Result<Server<'static>> {
    let Named { name, words } = named.clone();
    let is_for = |url: &&String| split_name(url).0.is_none_or(|of| of == name);
    // The last one wins, so that one for all can be followed by those of some.
    let (_, url) = split_name(
        options
            .urls
            .iter()
            .rfind(is_for)
            .with_context(|| format!("--url: none is for {name}"))?,
    );
    let url = url.to_owned();
    let url_of = move |port: u16| -> Result<Url> { url.replace(PORT, &port.to_string()).parse() };
    // A mistake in it concerns the command line, not the server.
    url_of(1).context("--url")?;
    let env = options.env.clone();
    Ok(Server {
        source: shell_words::join(&words),
        name,
        start: Box::new(move |free| {
            let url = url_of(free)?;
            let port = url.port().to_string();
            let words: Vec<String> = words.iter().map(|word| word.replace(PORT, &port)).collect();
            let program = Program::from_words(&words)?.env("PORT", &port);
            let program = env.iter().fold(program, |program, (name, value)| {
                program.env(name, value.replace(PORT, &port))
            });
            Ok((program, url))
        }),
    })
}

fn ensure_unique(all: &[Named]) -> Result<()> {
    let mut names = BTreeSet::new();
    let twice = all.iter().find(|named| !names.insert(&named.name));
    twice.map_or(Ok(()), |twice| {
        Err(anyhow::anyhow!(
            "two are called {:?}: give them names, NAME=...",
            twice.name
        ))
    })
}

fn write_files(options: &MeasureOptions, measured: &Measured) -> Result<()> {
    if let Some(path) = &options.json {
        fs::write(path, report::json(measured)?)?;
    }
    if let Some(path) = &options.markdown {
        fs::write(path, report::markdown(measured))?;
    }
    if let (Some(path), Some(lead)) = (&options.svg, measured.lead()) {
        fs::write(path, svg::bars(&measured.title, lead, &lead.names[0])?)?;
    }
    Ok(())
}

fn judge(options: &MeasureOptions, measured: &Measured, baseline: Option<&Measured>) -> Outcome {
    if !measured.has_samples() {
        eprintln!("error: nothing could be measured");
        return Outcome::NothingMeasured;
    }
    if let Some(limit) = options.fail_above {
        let failures = gate::failures(measured, baseline, limit);
        for failure in &failures {
            eprintln!("error: {failure}");
        }
        if !failures.is_empty() {
            return Outcome::GateClosed;
        }
    }
    let unjudged = baseline.map_or(Vec::new(), |baseline| gate::unjudged(measured, baseline));
    for name in &unjudged {
        eprintln!("error: not judged: {name}");
    }
    match measured.left_out.is_empty() && unjudged.is_empty() {
        true => Outcome::Complete,
        false => Outcome::SomethingLeftOut,
    }
}
