//! The program: calls [`conjured::cli`] and ends with its exit code.

fn main() -> std::process::ExitCode {
    conjured::cli::main(std::env::args_os())
}
