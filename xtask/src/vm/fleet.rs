//! Several guests at a time, so that one works while another waits.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::guest::{Ended, Guest};
use super::kernel::Kernel;
use super::payload::Payload;
use super::row::Row;
use super::series::Series;
use crate::run::{self, Progress};
use crate::workspace;

/// What every guest is given, and may take.
pub(super) struct Fleet<'a> {
    pub(super) busybox: &'a Path,
    pub(super) payload: &'a Payload,
    pub(super) within: Duration,
}

impl Fleet<'_> {
    /// A guest that boots this kernel.
    pub(super) fn guest<'a>(&'a self, series: Series, kernel: &'a Kernel) -> Guest<'a> {
        Guest {
            kernel,
            busybox: self.busybox,
            payload: &self.payload.archive,
            within: self.within,
            logs: workspace::target_dir().join("vm").join(series.to_string()),
            devices: Vec::new(),
        }
    }

    /// Runs scripts on all these kernels: `script` gives what the kernel of this number runs, and `judge` makes a row
    /// of what came of it. One row each, in their order.
    pub(super) fn run(
        &self,
        kernels: &[(Series, Kernel)],
        script: impl Fn(usize) -> String + Sync,
        judge: impl Fn(String, &Ended) -> Row + Sync,
    ) -> Result<Vec<Row>> {
        let names: Vec<_> = kernels.iter().map(|(series, _)| series.to_string()).collect();
        run::watched(&format!("testing on kernels {}", names.join(", ")), |progress| {
            Ok(self.run_each(kernels, &script, &judge, progress))
        })
    }

    fn run_each(
        &self,
        kernels: &[(Series, Kernel)],
        script: &(impl Fn(usize) -> String + Sync),
        judge: &(impl Fn(String, &Ended) -> Row + Sync),
        progress: &Progress<'_>,
    ) -> Vec<Row> {
        let at_a_time = thread::available_parallelism().map_or(1, usize::from).min(kernels.len());
        let next = AtomicUsize::new(0);
        let rows = Mutex::new(Vec::new());
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((series, kernel)) = kernels.get(number) else { return };
                let row = self.run_one(*series, kernel, &script(number), judge, progress);
                progress.interject(&row.line());
                rows.lock().unwrap_or_else(PoisonError::into_inner).push((number, row));
            }
        };
        thread::scope(|scope| {
            for _ in 0..at_a_time {
                scope.spawn(work);
            }
        });
        let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
        rows.sort_by_key(|(number, _)| *number);
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn run_one(
        &self,
        series: Series,
        kernel: &Kernel,
        script: &str,
        judge: impl Fn(String, &Ended) -> Row,
        progress: &Progress<'_>,
    ) -> Row {
        let version = kernel.upstream().to_owned();
        let guest = self.guest(series, kernel);
        let started = Instant::now();
        match guest.run(script, |line| progress.tell(&format!("{series}: {line}"))) {
            Ok(ended) => {
                let mut row = judge(version, &ended);
                if !row.passed() {
                    row.details.push(format!("error: kernel {}: {}", row.kernel, guest.where_to_look()));
                }
                row
            }
            Err(error) => {
                let mut row = Row::failed(version, "the guest failed".to_owned());
                row.took = Some(started.elapsed());
                row.details = vec![format!("error: kernel {}: {error:#}", row.kernel)];
                row
            }
        }
    }
}
