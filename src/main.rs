//! The program `store`. See `store --help`, and the library for how it works.

fn main() -> std::process::ExitCode {
    seamstore::cli::main()
}
