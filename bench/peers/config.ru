# A Rack application as Puma's own README shows it.
run ->(_env) { [200, { 'content-type' => 'text/plain; charset=utf-8' }, ["Hello from Rust in Docker!\n"]] }
