//! Which process of how many this is, and what connects it with the others.

use imagen::ranks::Ranks;

/// Variables that hold rank and number of ranks: Open MPI's, those of MPICH and its kin, Slurm's for the tasks of a step.
const VARIABLES: [[&str; 2]; 3] = [
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"],
    ["PMI_RANK", "PMI_SIZE"],
    ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"],
];

/// A process's place among those that were started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its number, from 0.
    pub(crate) rank: usize,
    /// How many there are.
    pub(crate) of: usize,
}

impl Place {
    /// The place that `mpirun` or `srun` gave this process; none where it was started alone.
    pub(crate) fn found() -> Option<Self> {
        Self::among(|name| std::env::var(name).ok())
    }

    fn among(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.parse::<usize>().ok();
        let places = VARIABLES.iter().filter_map(|[rank, of]| Some(Self { rank: number(rank)?, of: number(of)? }));
        places.into_iter().find(|place| place.of > 1 && place.rank < place.of)
    }
}

/// The job's connection, and how many of its ranks share this machine.
pub(crate) struct Job {
    /// The connection.
    pub(crate) ranks: Box<dyn Ranks>,
    /// Ranks on this machine, this one included.
    pub(crate) neighbours: usize,
    /// This rank's number among them, from 0.
    pub(crate) at: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_in_the_variables_of_whoever_started_the_processes() {
        let of = |set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            Place::among(|name| set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()))
        };
        let place = |rank, of| Some(Place { rank, of });
        assert_eq!(of(&[("OMPI_COMM_WORLD_RANK", "3"), ("OMPI_COMM_WORLD_SIZE", "8")]), place(3, 8));
        assert_eq!(of(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]), place(0, 2));
        assert_eq!(of(&[("SLURM_PROCID", "1"), ("SLURM_STEP_NUM_TASKS", "4")]), place(1, 4));
        // the script of a Slurm job is one process, however many tasks the job may have
        assert_eq!(of(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]), None);
        assert_eq!(of(&[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")]), None);
        assert_eq!(of(&[("PMI_RANK", "5"), ("PMI_SIZE", "2")]), None);
        assert_eq!(of(&[]), None);
    }
}
