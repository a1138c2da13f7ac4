//! Training by ranks as processes: over MPI where the program has it, and said where it has not.

use crate::train::folder;

/// Ranks without MPI would each train by themselves.
#[test]
#[cfg(not(feature = "mpi"))]
fn a_program_without_mpi_says_so_once_and_names_the_build_that_has_it() {
    use crate::{finish, imagen};
    let folder = folder();
    for (rank, said) in [("0", true), ("1", false)] {
        let variables = [("OMPI_COMM_WORLD_RANK", rank), ("OMPI_COMM_WORLD_SIZE", "2")];
        let finished = finish(imagen(folder.path()).args(["train", "recipe.toml", "--run", "run"]).envs(variables));
        assert_eq!(finished.code, 2);
        assert_eq!(finished.stderr.contains("--features mpi"), said, "{}", finished.stderr);
    }
    assert!(!folder.path().join("run").exists());
}

#[cfg(feature = "mpi")]
mod over_mpi {
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Output, Stdio};
    use std::time::{Duration, Instant};

    use super::folder;
    use crate::tiny;

    /// A command on so many ranks; none where no launcher is installed.
    fn mpirun(folder: &Path, ranks: &str, arguments: &[&str]) -> Option<Command> {
        let found = Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
        if !found {
            eprintln!("mpirun is not installed: nothing is tested");
            return None;
        }
        let text = tiny::text_encoder();
        let mut command = Command::new("mpirun");
        command.args(["--oversubscribe", "--bind-to", "none", "-n", ranks]);
        command.arg(assert_cmd::cargo::cargo_bin("imagen"));
        command.args(["train", "recipe.toml", "--threads", "1", "--text-encoder"]).arg(text).args(arguments);
        command.current_dir(folder).stdin(Stdio::null());
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        Some(command)
    }

    fn said(output: &Output) -> String {
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    #[test]
    fn ranks_train_the_run_of_one_process_and_go_on_with_another_number() {
        let folder = folder();
        let folder = folder.path();
        let parts = ["-q", "--set", "train.micro_batch=1"];
        let alone = crate::train::train(folder, "alone", &parts);
        assert_eq!(alone.code, 0, "{}", alone.stderr);
        let state = |run: &str| fs::read(folder.join(run).join("state.safetensors")).unwrap();
        for (ranks, more) in [("2", &["--steps", "3"][..]), ("3", &["--resume"])] {
            let Some(mut command) = mpirun(folder, ranks, &[&["--run", "many"], &parts[..], more].concat()) else {
                return;
            };
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
            assert_eq!(String::from_utf8_lossy(&output.stdout), "many/base.safetensors\n", "one rank speaks");
        }
        assert!(state("many") == state("alone"));
    }

    #[test]
    fn what_all_refuse_is_one_line_and_more_ranks_than_parts_are_refused() {
        let folder = folder();
        let cases =
            [(&["--run", "run", "--set", "train.lr=7"][..], 3, "lr"), (&["--run", "run"], 2, "train.micro_batch=2")];
        for (arguments, code, words) in cases {
            let Some(mut command) = mpirun(folder.path(), "2", arguments) else { return };
            let output = command.output().unwrap();
            let said = said(&output);
            assert_eq!(output.status.code(), Some(code), "{said}");
            assert!(said.matches("error: ").count() == 1 && said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_rank_that_is_killed_ends_the_job_with_its_name_and_what_was_saved_stays() {
        let folder = folder();
        let folder = folder.path();
        let endless = ["--run", "run", "-q", "--set", "train.micro_batch=1", "--steps", "1000000"];
        let Some(mut command) = mpirun(folder, "3", &endless) else { return };
        let job = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let state = folder.join("run/state.safetensors");
        let begun = Instant::now();
        while !state.exists() && begun.elapsed() < Duration::from_secs(120) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let victim = rank_below(job.id(), "2").expect("the third rank is there");
        assert!(Command::new("kill").args(["-9", &victim]).status().unwrap().success());
        let killed = Instant::now();
        let output = job.wait_with_output().unwrap();
        assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
        assert!(!output.status.success() && said(&output).contains("rank 2"), "{}", said(&output));
        // what was saved is whole: it says how far it is
        let fewer = ["-q", "--set", "train.micro_batch=1", "--resume", "--steps", "1"];
        let refused = crate::train::train(folder, "run", &fewer).stderr;
        assert!(refused.contains("the run has taken"), "{refused}");
    }

    /// The process of a rank that this mpirun started.
    fn rank_below(launcher: u32, rank: &str) -> Option<String> {
        let wanted = format!("OMPI_COMM_WORLD_RANK={rank}");
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent: u32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            let variables = fs::read(entry.path().join("environ")).ok()?;
            let is_it = variables.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
            (parent == launcher && is_it).then(|| entry.file_name().into_string().ok())?
        })
    }
}
