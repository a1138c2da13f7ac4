//! Decodes every file of a folder as the program does and writes what it saw as PNG, so that another decoder can be held
//! against it (`bench/awkward.py`).
//!
//!     cargo run --release -p imagen --example decode -- FOLDER OUT
//!
//! Prints a line for each file that is refused: its name, a tab, the reason.

use std::path::PathBuf;

use imagen::image::{DecodeOptions, PngText, decode, png};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (Some(folder), Some(out)) = (arguments.next(), arguments.next()) else { return Err("FOLDER OUT".into()) };
    // a decoder that panics is reported as the refusal that it is
    std::panic::set_hook(Box::new(|_| {}));
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match decode::open(&file, &DecodeOptions::default()) {
            Ok(picture) => png::write(&out.join(format!("{name}.png")), &picture, &PngText::default())?,
            Err(error) => println!("{name}\t{error:#}"),
        }
    }
    Ok(())
}
