//! The `ringflow` binary: every role and tool of a cluster.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ringflow::cli::main()
}
