//! Child processes that cannot outlive the suite.

use std::ffi::OsStr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output};
use std::sync::{Arc, Condvar, Mutex, OnceLock, mpsc};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// How long a program told to end in order may take before it is killed.
const PATIENCE: Duration = Duration::from_secs(20);

const NO_PANIC: &str = "nobody panics under this lock";

/// A program to be started: a command that ends with this process, by the signal it takes for an orderly end.
#[derive(Debug)]
pub struct Program {
    name: String,
    ending: Signal,
    command: Command,
}

impl Program {
    /// `program`, told by `ending` to end when its [`Process`] is dropped or this process dies.
    pub fn new(name: &str, program: impl AsRef<OsStr>, ending: Signal) -> Self {
        Self::prepare(name, program.as_ref(), ending, None)
    }

    /// As [`Program::new`], run as the user `postgres` where this process is root: PostgreSQL refuses root.
    pub fn as_postgres(name: &str, program: impl AsRef<OsStr>, ending: Signal) -> Self {
        Self::prepare(name, program.as_ref(), ending, geteuid().is_root().then_some("postgres"))
    }

    fn prepare(name: &str, program: &OsStr, ending: Signal, user: Option<&str>) -> Self {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig").arg(ending.as_str().trim_start_matches("SIG"));
        if let Some(user) = user {
            command.args(["--reuid", user, "--regid", user, "--init-groups"]);
        }
        command.arg("--").arg(program);
        Self { name: name.to_owned(), ending, command }
    }

    /// Arguments, environment and where the output goes.
    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Starts it.
    pub fn spawn(self) -> Result<Process> {
        let mut child =
            spawner::spawn(self.command).with_context(|| format!("cannot start {}", self.name))?;
        let stdout = child.stdout.take();
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        let end = Arc::new(End::default());
        let reaper = end.clone();
        std::thread::spawn(move || reaper.set(child.wait()));
        Ok(Process { name: self.name, ending: self.ending, pid, end, stdout })
    }

    /// Runs it to its end: how it ended, and what it wrote.
    pub fn output(mut self) -> Result<Output> {
        self.command.output().with_context(|| format!("cannot start {}", self.name))
    }

    /// Runs it to its end, and fails with what it wrote where it did not succeed.
    pub fn run(mut self) -> Result<String> {
        let output = self.command.output().with_context(|| format!("cannot start {}", self.name))?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        Err(anyhow!("{} ended with {}\n{stdout}{stderr}", self.name, output.status))
    }
}

/// How a program ended, once it has.
#[derive(Debug, Default)]
struct End {
    status: Mutex<Option<ExitStatus>>,
    changed: Condvar,
}

impl End {
    fn set(&self, status: std::io::Result<ExitStatus>) {
        let status = status.expect("a child that nobody else waits for can be waited for");
        *self.status.lock().expect(NO_PANIC) = Some(status);
        self.changed.notify_all();
    }
}

/// A running program, ended when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    ending: Signal,
    pid: Pid,
    end: Arc<End>,
    stdout: Option<ChildStdout>,
}

impl Process {
    /// The process id of the program itself (`setpriv` replaces itself by it).
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What it prints, where that was piped; once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// Sends `signal`, unless the program has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.ended().is_none() {
            kill(self.pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name))?;
        }
        Ok(())
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<ExitStatus> {
        *self.end.status.lock().expect(NO_PANIC)
    }

    /// Waits for the end, at most `deadline`; blocks the thread.
    pub fn wait(&self, deadline: Duration) -> Result<ExitStatus> {
        let status = self.end.status.lock().expect(NO_PANIC);
        let (status, _) =
            self.end.changed.wait_timeout_while(status, deadline, |status| status.is_none()).expect(NO_PANIC);
        status.ok_or_else(|| anyhow!("{} did not end within {deadline:?}", self.name))
    }

    /// Ends it in order, and by force where that takes too long.
    pub fn end(&self) -> Result<()> {
        self.signal(self.ending)?;
        if self.wait(PATIENCE).is_err() {
            self.kill()?;
        }
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.wait(PATIENCE)?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}

/// The kernel sends the parent-death signal when the *thread* that forked ends, and test threads come and go:
/// one thread that never ends forks for all.
mod spawner {
    use super::{Child, Command, OnceLock, mpsc};

    type Order = (Command, mpsc::SyncSender<std::io::Result<Child>>);

    static ORDERS: OnceLock<mpsc::SyncSender<Order>> = OnceLock::new();

    pub(super) fn spawn(command: Command) -> std::io::Result<Child> {
        let orders = ORDERS.get_or_init(|| {
            let (orders, inbox) = mpsc::sync_channel::<Order>(0);
            std::thread::spawn(move || {
                for (mut command, reply) in inbox {
                    // Whoever ordered may have given up by now; the dropped child is reaped by its own guard.
                    let _ = reply.send(command.spawn());
                }
            });
            orders
        });
        let (reply, answer) = mpsc::sync_channel(1);
        orders.send((command, reply)).expect("the spawning thread never ends");
        answer.recv().expect("the spawning thread answers each order")
    }
}
