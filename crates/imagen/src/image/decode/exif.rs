//! Which way up a photograph was taken, from its notes.

use image::metadata::Orientation;

const ORIENTATION: u16 = 0x0112;

/// The orientation that notes name; none where they are damaged or say nothing. Unlike most readers, and like Pillow, it takes
/// the number in whatever width it was written.
pub(super) fn orientation(exif: &[u8]) -> Option<Orientation> {
    let little = match exif.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let number = |bytes: &[u8]| {
        let append = |sum: u32, &byte: &u8| sum << 8 | u32::from(byte);
        if little { bytes.iter().rev().fold(0, append) } else { bytes.iter().fold(0, append) }
    };
    let first = number(exif.get(4..8)?) as usize;
    let list = exif.get(first..)?;
    let entries = number(list.get(..2)?) as usize;
    let entry = list[2..]
        .as_chunks::<12>()
        .0
        .iter()
        .take(entries)
        .find(|entry| number(&entry[..2]) == u32::from(ORIENTATION))?;
    let width = match number(&entry[2..4]) {
        1 => 1,
        3 => 2,
        4 => 4,
        _ => return None,
    };
    Orientation::from_exif(u8::try_from(number(&entry[8..8 + width])).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_read_in_every_width_and_order() {
        let turned = Some(Orientation::Rotate90);
        for (little, kind, value) in [
            (true, 1u16, [6, 0, 0, 0]),
            (true, 3, [6, 0, 0, 0]),
            (true, 4, [6, 0, 0, 0]),
            (false, 1, [6, 0, 0, 0]),
            (false, 3, [0, 6, 0, 0]),
            (false, 4, [0, 0, 0, 6]),
        ] {
            let short = |n: u16| if little { n.to_le_bytes() } else { n.to_be_bytes() };
            let long = |n: u32| if little { n.to_le_bytes() } else { n.to_be_bytes() };
            let mut exif = if little { b"II".to_vec() } else { b"MM".to_vec() };
            exif.extend(short(42));
            exif.extend(long(8));
            exif.extend(short(2));
            for (tag, value) in [(0x010F, [0; 4]), (ORIENTATION, value)] {
                exif.extend([short(tag), short(kind)].concat());
                exif.extend(long(1));
                exif.extend(value);
            }
            assert_eq!(orientation(&exif), turned, "{little} {kind}");
            for end in 0..exif.len() {
                assert_eq!(orientation(&exif[..end]), None, "{end}");
            }
        }
        assert_eq!(orientation(b"II*\0\x08\0\0\0\xff\xff"), None);
    }
}
