//! How much may be asked for. Every number here is in `/api/v1/capabilities`, so that no client has to find it out.

use std::time::Duration;

use serde::Serialize;

/// The most of everything.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Characters of a prompt.
    pub prompt_characters: usize,
    /// Pictures of a job.
    pub count: usize,
    /// Pictures that are drawn together.
    pub batch: usize,
    /// Steps of a stage.
    pub steps: usize,
    /// The largest guidance weight.
    pub guidance: f64,
    /// The largest seed: a number that every reader of JSON keeps exactly.
    pub seed: u64,
    /// Jobs that wait, of everybody together.
    pub queue: usize,
    /// Jobs of one client that wait.
    pub queue_per_client: usize,
    /// Bytes of a request.
    pub body_bytes: usize,
    /// Bytes of a request that holds a picture.
    pub picture_body_bytes: usize,
    /// The largest side of a picture that is sent.
    pub picture_side: usize,
    /// Bytes that decoding such a picture may take.
    pub picture_bytes: u64,
    /// Pictures that are read at once.
    pub pictures_at_once: usize,
    /// Bytes of pictures that were sent and are kept.
    pub kept_bytes: u64,
    /// The largest side of a picture that was enlarged.
    pub enlarged_side: usize,
    /// How often a step within a mask may be taken.
    pub resample: usize,
    /// Pictures of an archive.
    pub archive: usize,
    /// Seconds after which a job is ended.
    pub job_seconds: u64,
    /// Streams of events at once.
    pub streams: usize,
}

impl Limits {
    /// How long a job may take.
    pub(crate) fn job_time(&self) -> Duration {
        Duration::from_secs(self.job_seconds)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            prompt_characters: 2000,
            count: 64,
            batch: 16,
            steps: 1000,
            guidance: 100.0,
            seed: (1 << 53) - 1,
            queue: 100,
            queue_per_client: 32,
            body_bytes: 64 << 10,
            picture_body_bytes: 32 << 20,
            picture_side: 8192,
            picture_bytes: 256 << 20,
            pictures_at_once: 2,
            kept_bytes: 2 << 30,
            enlarged_side: 8192,
            resample: 20,
            archive: 200,
            job_seconds: 3600,
            streams: 512,
        }
    }
}
