# What a service with a state of its own changes in src/main.rs: where the start waits, and what the
# end writes.
s/Ok(Routes::new(readiness.clone()))/Routes::open(readiness.clone()).await.map_err(Failure::start("open the journal"))/
/^    let routes = routes?;$/a\    let at_the_end = routes.clone();
/^    match drained {$/i\    at_the_end.flush().await.map_err(Failure::start("write the journal"))?;
