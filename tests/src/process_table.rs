//! What the kernel tells of processes and of the ports they listen at.

use std::net::SocketAddr;

use anyhow::Result;
use nix::unistd::Pid;
use procfs::net::{TcpState, tcp, tcp6};
use procfs::process::{Process, all_processes};

fn process(pid: Pid) -> Result<Process> {
    Ok(Process::new(pid.as_raw())?)
}

/// Whether it has not ended; one that only waits to be waited for has.
pub fn is_running(pid: Pid) -> bool {
    process(pid).is_ok_and(|process| process.is_alive())
}

/// The processes that `pid` has started, which have not ended.
pub fn children(of: Pid) -> Result<Vec<Pid>> {
    let of_that_parent =
        |process: &Process| process.stat().is_ok_and(|stat| stat.ppid == of.as_raw()) && process.is_alive();
    let mut found: Vec<_> = all_processes()?.flatten().filter(of_that_parent).map(pid_of).collect();
    found.sort();
    Ok(found)
}

/// The processes that have `part` in their command lines, each with the whole of its own.
pub fn with_argument(part: &str) -> Result<Vec<(Pid, String)>> {
    let command_line = |process: Process| {
        let line = process.cmdline().ok()?.join(" ");
        line.contains(part).then(|| (pid_of(process), line))
    };
    Ok(all_processes()?.flatten().filter_map(command_line).collect())
}

fn pid_of(process: Process) -> Pid {
    Pid::from_raw(process.pid())
}

/// The environment it was started with, `NAME=value` each, sorted.
pub fn environment(pid: Pid) -> Result<Vec<String>> {
    let setting = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        format!("{}={}", name.to_string_lossy(), value.to_string_lossy())
    };
    let mut settings: Vec<_> = process(pid)?.environ()?.into_iter().map(setting).collect();
    settings.sort();
    Ok(settings)
}

/// Resident memory that it shares with no other, in bytes.
pub fn private_memory(pid: Pid) -> Result<u64> {
    let memory = process(pid)?.statm()?;
    Ok(memory.resident.saturating_sub(memory.shared) * procfs::page_size())
}

/// The addresses that something listens at on one of `ports`, sorted.
pub fn listeners(ports: &[u16]) -> Result<Vec<SocketAddr>> {
    let mut sockets = tcp()?;
    // A machine may do without version 6.
    sockets.extend(tcp6().unwrap_or_default());
    let mut found: Vec<_> = sockets
        .into_iter()
        .filter(|socket| socket.state == TcpState::Listen)
        .map(|socket| socket.local_address)
        .filter(|address| ports.contains(&address.port()))
        .collect();
    found.sort();
    Ok(found)
}
