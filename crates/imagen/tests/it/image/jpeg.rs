//! JPEG files: the pixels that Pillow sees, and what is refused because a part is missing.

use super::*;

/// A JPEG file of 8-pixel blocks that differ, in as many rounds as asked for.
fn photograph(width: u32, height: u32) -> Vec<u8> {
    let picture =
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 37 + y * 11) as u8, (y * 53) as u8, (x * y) as u8]));
    encoded(&picture.into(), ImageFormat::Jpeg)
}

/// Where the entropy-coded data of a file's last scan begin.
fn last_scan(jpeg: &[u8]) -> usize {
    jpeg.windows(2).rposition(|pair| pair == [0xFF, 0xDA]).unwrap()
}

#[test]
fn what_phones_append_to_a_photograph_is_not_looked_at() {
    let jpeg = photograph(96, 64);
    let expected = decode::decode(&jpeg, &options()).unwrap();
    let second = photograph(32, 32);
    let video = b"\0\0\0\x18ftypmp42\0\0\0\0isommp42 \xFF\xDA \xFF\xD9 \xFF\xDA\0\0".to_vec();
    let without_mark = jpeg[..jpeg.len() - 2].to_vec();
    let cases = [
        ("a video", [jpeg.clone(), video.clone()].concat()),
        ("a second picture that is cut", [jpeg.clone(), second[..300].to_vec()].concat()),
        ("notes", [&jpeg[..], b"\nSEFH\0\0 uploaded by a gallery"].concat()),
        ("notes and no end mark", [&without_mark[..], b"\0\0\x01\x0aImage_UTC_Data SEFT"].concat()),
        ("a video and no end mark", [without_mark.clone(), video].concat()),
        ("no end mark", without_mark),
        ("fill bytes before a marker", [&jpeg[..2], &[0xFF; 5], &jpeg[2..]].concat()),
    ];
    let mut failures = Vec::new();
    for (what, bytes) in cases {
        match decode::decode(&bytes, &options()) {
            Ok(picture) if picture == expected => {}
            Ok(_) => failures.push(format!("{what}: another picture")),
            Err(error) => failures.push(format!("{what}: {error:#}")),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn half_a_photograph_is_refused_whether_or_not_it_has_an_end_mark() {
    for (form, jpeg) in [("sequential", photograph(96, 64)), ("progressive", golden("progressive.jpg"))] {
        let data = last_scan(&jpeg);
        for part in [data + 2, (data + jpeg.len()) / 2, jpeg.len() - 4] {
            for end in [&b""[..], b"\xFF\xD9", b"\xFF\xD9 and more \xFF\xD9"] {
                let bytes = [&jpeg[..part], end].concat();
                let message = format!("{:#}", decode::decode(&bytes, &options()).expect_err(form));
                // the end mark may fall into the header of a round that is cut
                let said = message.contains("ends in the middle of the picture") || form == "progressive";
                assert!(said && message.contains("JPEG"), "{form} {part}: {message}");
            }
        }
    }
    let message = format!("{:#}", decode::decode(&photograph(64, 640)[..2000], &options()).unwrap_err());
    assert!(message.contains("in row") && message.contains("of 640"), "{message}");
}

#[test]
fn jpeg_files_are_what_pillow_sees_level_by_level() {
    let bytes = golden("jpeg.safetensors");
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let names: Vec<&str> = golden.names().into_iter().filter_map(|name| name.strip_suffix(".file")).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        let file = golden.tensor(&format!("{name}.file")).unwrap();
        let pixels = golden.tensor(&format!("{name}.pixels")).unwrap();
        let channels = if pixels.shape().len() == 2 { 1 } else { 3 };
        let options = DecodeOptions { channels, ..options() };
        let (picture, stored) = decode::decode_stored(file.data(), &options).unwrap();
        assert_eq!([picture.height(), picture.width()], pixels.shape()[..2], "{name}");
        assert_eq!(stored.channels, channels, "{name}");
        let differ = picture.pixels().iter().zip(pixels.data()).filter(|(a, b)| a != b).count();
        assert_eq!(differ, 0, "{name}");
    }
}

#[test]
fn a_jpeg_whose_colours_are_not_whole_pixels_apart_is_refused() {
    let mut jpeg = photograph(16, 16);
    let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]).unwrap();
    // the samplings of the first and the second of three colours
    (jpeg[frame + 11], jpeg[frame + 14]) = (0x31, 0x21);
    let message = format!("{:#}", decode::decode(&jpeg, &options()).unwrap_err());
    assert!(message.contains("not whole pixels apart"), "{message}");
}

#[test]
fn rounds_that_never_come_are_missed() {
    // a photograph in rounds, without its last one
    let whole = golden("progressive.jpg");
    let scans: Vec<usize> = (0..whole.len() - 1).filter(|&at| whole[at..at + 2] == [0xFF, 0xDA]).collect();
    for &scan in &scans[1..] {
        let before = (0..scan).rev().find(|&at| whole[at] == 0xFF && whole[at + 1] == 0xC4);
        let part = [&whole[..before.unwrap_or(scan)], b"\xFF\xD9"].concat();
        let message = format!("{:#}", decode::decode(&part, &options()).unwrap_err());
        assert!(message.contains("ends in the middle of the picture"), "{message}");
    }
    // the end mark itself is nothing to wait for
    assert_eq!(
        decode::decode(&whole[..whole.len() - 2], &options()).unwrap(),
        decode::decode(&whole, &options()).unwrap()
    );
}

#[test]
fn the_first_of_several_notes_says_which_way_up() {
    let jpeg = encoded(&landmark(64, 32).into(), ImageFormat::Jpeg);
    let notes = |kind: [u8; 2], value: [u8; 4]| {
        let exif = [b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12", &kind[..], b"\0\0\0\x01", &value, &[0; 4]].concat();
        [&[0xFF, 0xE1, 0, exif.len() as u8 + 2], &exif[..]].concat()
    };
    let [short, long] = [notes([0, 3], [0, 6, 0, 0]), notes([0, 4], [0, 0, 0, 6])];
    let upside_down = notes([0, 3], [0, 3, 0, 0]);
    for notes in [[&short[..], &upside_down].concat(), long] {
        let picture = decode::decode(&[&jpeg[..2], &notes, &jpeg[2..]].concat(), &options()).unwrap();
        assert_eq!((picture.width(), picture.height()), (32, 64));
    }
}
