//! Pictures from outside and pictures for outside: decode limits, formats, resize against Pillow, PNG text.

use std::io::Cursor;

use ::image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, RgbImage, Rgba, RgbaImage};
use imagen::ErrorKind;
use imagen::image::{DecodeOptions, Filter, FloatPicture, Picture, PngText, decode, png};
use safetensors::SafeTensors;

fn options() -> DecodeOptions {
    DecodeOptions::default()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

/// Left half red, right half blue, upper left quarter green.
fn landmark(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| match (x < width / 2, y < height / 2) {
        (true, true) => Rgb([0, 255, 0]),
        (true, false) => Rgb([255, 0, 0]),
        _ => Rgb([0, 0, 255]),
    })
}

fn close(a: [u8; 3], b: [u8; 3], tolerance: u8) -> bool {
    a.iter().zip(b).all(|(a, b)| a.abs_diff(b) <= tolerance)
}

/// A PNG of about fifty bytes whose header promises `width` x `height` pixels of 16-bit RGBA.
fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        let body = [kind, data].concat();
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(&body);
        bytes.extend(crc32(&body).to_be_bytes());
    };
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes()[..], &[16, 6, 0, 0, 0]].concat();
    chunk(b"IHDR", &header);
    chunk(b"IDAT", &[0x78, 0x9c, 0x03, 0x00, 0, 0, 0, 1]);
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

#[test]
fn a_png_of_fifty_bytes_cannot_ask_for_gigabytes() {
    for (width, height) in [(0x7FFF_FFFF, 0x7FFF_FFFF), (16385, 1), (16384, 16384), (1, 200_000)] {
        let bomb = png_bomb(width, height);
        assert!(bomb.len() < 60);
        let error = decode::decode(&bomb, &options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(format!("{error:#}").contains("too large"), "{width}x{height}: {error:#}");
    }
    let small = DecodeOptions { max_side: 8, ..options() };
    let bytes = encoded(&landmark(9, 4).into(), ImageFormat::Png);
    assert!(decode::decode(&bytes, &small).is_err());
    assert!(decode::decode(&bytes, &options()).is_ok());
}

#[test]
fn a_truncated_file_is_an_error_in_every_format() {
    let image = DynamicImage::from(landmark(64, 64));
    let mut failures = Vec::new();
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let bytes = encoded(&image, format);
        assert!(decode::decode(&bytes, &options()).is_ok(), "{format:?}");
        for keep in [3, bytes.len() / 3, bytes.len() / 2, bytes.len() * 9 / 10] {
            match decode::decode(&bytes[..keep], &options()) {
                Err(error) if error.kind() == ErrorKind::Data => {}
                other => failures.push(format!("{format:?} cut to {keep} of {}: {other:?}", bytes.len())),
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn the_format_is_told_by_content_and_other_formats_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("really-a-png.jpg");
    std::fs::write(&path, encoded(&landmark(8, 8).into(), ImageFormat::Png)).unwrap();
    assert_eq!(decode::open(&path, &options()).unwrap().pixel(7, 7), [0, 0, 255]);

    std::fs::write(&path, b"II*\0\x08\0\0\0").unwrap();
    let error = decode::open(&path, &options()).unwrap_err();
    let message = format!("{error:#}");
    assert!(message.contains("a TIFF file is not read") && message.contains("really-a-png.jpg"), "{message}");

    std::fs::write(&path, "a red apple").unwrap();
    assert!(format!("{:#}", decode::open(&path, &options()).unwrap_err()).contains("not a picture"));
    let missing = decode::open(&folder.path().join("absent.png"), &options()).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::Io);
}

#[test]
fn grey_sixteen_bit_and_transparent_pictures_become_rgb() {
    let grey16 = ImageBuffer::from_pixel(2, 1, Luma([0x8000u16]));
    let picture = decode::decode(&encoded(&DynamicImage::ImageLuma16(grey16), ImageFormat::Png), &options()).unwrap();
    assert_eq!(picture.pixels(), [128; 6]);

    let clear = DynamicImage::from(RgbaImage::from_pixel(1, 1, Rgba([255, 0, 0, 0])));
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let bytes = encoded(&clear, format);
        assert_eq!(decode::decode(&bytes, &options()).unwrap().pixels(), [255, 255, 255]);
        let on_green = DecodeOptions { background: [0, 200, 0], ..options() };
        assert_eq!(decode::decode(&bytes, &on_green).unwrap().pixels(), [0, 200, 0]);
    }
}

/// A file of `tests/golden/decode`.
fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/golden/decode/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];

#[test]
fn other_forms_of_the_formats_show_their_colours() {
    // upper left, upper right, lower left, lower right; how it is stored
    let cases = [
        ("cmyk.jpg", [[0, 255, 255], [255, 0, 255], [255, 255, 0], [0; 3]], ("JPEG", 3, 8)),
        ("progressive.jpg", [RED, GREEN, BLUE, [0; 3]], ("JPEG", 3, 8)),
        ("animated.webp", [RED, GREEN, BLUE, [255; 3]], ("WebP", 4, 8)),
        ("animated.png", [RED, GREEN, BLUE, [255; 3]], ("PNG", 4, 8)),
        ("palette.png", [RED, GREEN, BLUE, [255; 3]], ("PNG", 4, 8)),
        ("bits.png", [[0; 3], [0; 3], [255; 3], [255; 3]], ("PNG", 1, 8)),
    ];
    let mut failures = Vec::new();
    for (name, expected, form) in cases {
        let (picture, stored) = match decode::decode_stored(&golden(name), &options()) {
            Ok(decoded) => decoded,
            Err(error) => {
                failures.push(format!("{name}: {error:#}"));
                continue;
            }
        };
        let tolerance = if name.ends_with("jpg") { 24 } else { 0 };
        // in the middle of each quarter; of a dithered one any pixel will do
        let seen = [(3, 3), (12, 3), (3, 12), (12, 12)].map(|(x, y)| picture.pixel(x, y));
        let places = if name == "bits.png" { vec![0, 3] } else { vec![0, 1, 2, 3] };
        if places.iter().any(|&i| !close(seen[i], expected[i], tolerance)) {
            failures.push(format!("{name}: {seen:?}, expected {expected:?}"));
        }
        if (stored.format, stored.channels, stored.bits) != form {
            failures.push(format!("{name}: {stored:?}, expected {form:?}"));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn formats_that_are_not_read_are_refused_by_name() {
    let avif = golden("picture.avif");
    let cases = [("TIFF", &b"II*\0\x08\0\0\0"[..]), ("AVIF", &avif)];
    for (name, bytes) in cases {
        let message = format!("{:#}", decode::decode(bytes, &options()).expect_err(name));
        assert!(message.contains(&format!("a {name} file is not read; expected {}", decode::FORMATS)), "{message}");
    }
}

#[test]
fn every_picture_becomes_the_channels_that_are_asked_for() {
    let grey = DynamicImage::ImageLuma8(ImageBuffer::from_pixel(1, 1, Luma([90u8])));
    let grey_alpha = DynamicImage::ImageLumaA16(ImageBuffer::from_pixel(1, 1, LumaA([0u16, 0x8080])));
    let colour = DynamicImage::ImageRgb16(ImageBuffer::from_pixel(1, 1, Rgb([0xFFFFu16, 0, 0])));
    let colour_alpha = DynamicImage::from(RgbaImage::from_pixel(1, 1, Rgba([0, 255, 0, 0])));
    /// A picture, its one pixel by channels that are asked for, and how it is stored: channels and bits.
    type Case = (DynamicImage, [&'static [u8]; 4], (usize, usize));
    let cases: [Case; 4] = [
        (grey, [&[90], &[90, 255], &[90; 3], &[90, 90, 90, 255]], (1, 8)),
        (grey_alpha, [&[127], &[0, 128], &[127; 3], &[0, 0, 0, 128]], (2, 16)),
        (colour, [&[54], &[54, 255], &[255, 0, 0], &[255, 0, 0, 255]], (3, 16)),
        (colour_alpha, [&[255], &[182, 0], &[255; 3], &[0, 255, 0, 0]], (4, 8)),
    ];
    for (image, expected, (channels, bits)) in cases {
        let bytes = encoded(&image, ImageFormat::Png);
        for (asked, expected) in (1..=4).zip(expected) {
            let options = DecodeOptions { channels: asked, ..options() };
            let (picture, stored) = decode::decode_stored(&bytes, &options).unwrap();
            assert_eq!((picture.channels(), picture.pixels()), (asked, expected), "{channels} as {asked}");
            assert_eq!((stored.channels, stored.bits), (channels, bits));
        }
    }
    for channels in [0, 5] {
        let options = DecodeOptions { channels, ..options() };
        assert_eq!(decode::decode(&png_bomb(1, 1), &options).unwrap_err().kind(), ErrorKind::Usage);
    }
}

#[test]
fn a_png_has_the_colour_type_of_its_picture() {
    for (channels, kind) in [(1, 0), (2, 4), (3, 2), (4, 6)] {
        let picture = Picture::with_channels(2, 1, channels, (0..2 * channels as u8).collect()).unwrap();
        let bytes = png::encode(&picture, &PngText::default()).unwrap();
        assert_eq!(bytes[25], kind, "the colour type follows the sides and the depth");
        assert_eq!(decode::decode(&bytes, &DecodeOptions { channels, ..options() }).unwrap(), picture);
    }
}

#[test]
fn the_orientation_of_a_photograph_is_applied() {
    let jpeg = encoded(&landmark(64, 32).into(), ImageFormat::Jpeg);
    let expected = [
        (1, (64, 32), [0, 255, 0]),
        (3, (64, 32), [0, 0, 255]),
        (6, (32, 64), [255, 0, 0]),
        (8, (32, 64), [0, 0, 255]),
    ];
    for (orientation, size, upper_left) in expected {
        // APP1 with a TIFF block of one entry: tag 0x0112, type SHORT, count 1.
        let mut exif = b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let mut bytes = jpeg[..2].to_vec();
        bytes.extend([0xFF, 0xE1]);
        bytes.extend((exif.len() as u16 + 2).to_be_bytes());
        bytes.extend(exif);
        bytes.extend(&jpeg[2..]);
        let picture = decode::decode(&bytes, &options()).unwrap();
        assert_eq!((picture.width(), picture.height()), size, "orientation {orientation}");
        assert!(close(picture.pixel(4, 4), upper_left, 12), "orientation {orientation}: {:?}", picture.pixel(4, 4));
    }
}

#[test]
fn resizing_equals_pillow() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/resize/resize.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let view = golden.tensor(name).unwrap();
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let bytes_of = |name: &str| golden.tensor(name).unwrap().data().to_vec();
    let (height, width) = (37, 29);
    let picture = Picture::new(width, height, bytes_of("u8.input")).unwrap();
    let field = FloatPicture::new(width, height, 1, floats("f32.input")).unwrap();
    let mut cases = 0;
    let mut failures = Vec::new();
    for (name, filter) in [("area", Filter::Area), ("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic)] {
        for (w, h) in [(10, 7), (16, 16), (29, 37), (29, 5), (50, 61), (64, 20)] {
            cases += 1;
            let key = format!("{name}.{w}x{h}");
            let ours = picture.resize(w, h, filter).unwrap();
            let differing = ours.pixels().iter().zip(&bytes_of(&format!("u8.{key}"))).filter(|(a, b)| a != b).count();
            if differing > 0 {
                failures.push(format!("u8.{key}: {differing} bytes differ"));
            }
            let ours = field.resize(w, h, filter).unwrap();
            let theirs = floats(&format!("f32.{key}"));
            let worst = ours.values().iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            if worst > 1e-6 || ours.values().len() != theirs.len() {
                failures.push(format!("f32.{key}: off by {worst}"));
            }
        }
    }
    assert_eq!(golden.len(), 2 * cases + 2);
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn resizing_with_opacity_equals_pillow() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/resize/alpha.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str| {
        let view = golden.tensor(name).unwrap();
        let [h, w, c] = *view.shape() else { panic!("{name}") };
        Picture::with_channels(w, h, c, view.data().to_vec()).unwrap()
    };
    let mut cases = 0;
    for mode in ["la", "rgba"] {
        let picture = read(&format!("{mode}.input"));
        for (name, filter) in [("area", Filter::Area), ("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic)] {
            for (w, h) in [(10, 7), (16, 16), (50, 61)] {
                let expected = read(&format!("{mode}.{name}.{w}x{h}"));
                let ours = picture.resize(w, h, filter).unwrap();
                let differing = ours.pixels().iter().zip(expected.pixels()).filter(|(a, b)| a != b).count();
                assert_eq!(differing, 0, "{mode}.{name}.{w}x{h}");
                cases += 1;
            }
        }
    }
    assert_eq!(golden.len(), cases + 2);
}

#[test]
fn a_png_gives_back_its_pixels_and_its_text() {
    let picture = Picture::new(5, 3, (0..45).map(|i| i * 5).collect()).unwrap();
    let texts = [
        PngText::default(),
        PngText { parameters: Some("a red apple\nSteps: 20, Seed: 7".into()), imagen: Some(r#"{"v":1}"#.into()) },
        PngText {
            parameters: Some("crème brûlée".into()), imagen: Some("{\"prompt\":\"ein Äpfelchen 🍎\"}".into())
        },
    ];
    let folder = tempfile::tempdir().unwrap();
    for text in texts {
        let path = folder.path().join("new/folder/picture.png");
        png::write(&path, &picture, &text).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(png::read_text(&bytes, &options()).unwrap(), text);
        assert_eq!(decode::decode(&bytes, &options()).unwrap(), picture);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
        let truncated = &bytes[..bytes.len() / 2];
        assert_eq!(png::read_text(truncated, &options()).unwrap_err().kind(), ErrorKind::Data);
    }
    let nul = PngText { parameters: Some("a\0b".into()), imagen: None };
    assert_eq!(png::encode(&picture, &nul).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn unicode_text_is_an_international_chunk_and_latin_text_a_plain_one() {
    let picture = Picture::filled(1, 1, [0; 3]);
    for (text, chunk) in [("crème", b"tEXt"), ("苹果", b"iTXt")] {
        let text = PngText { parameters: Some(text.into()), imagen: None };
        let bytes = png::encode(&picture, &text).unwrap();
        assert!(bytes.windows(4).any(|window| window == chunk), "{text:?}");
    }
}

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

/// A PNG file of these chunks.
fn png_of(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in chunks {
        bytes.extend((data.len() as u32).to_be_bytes());
        let from = bytes.len();
        bytes.extend(*kind);
        bytes.extend(*data);
        let checksum = crc32fast::hash(&bytes[from..]);
        bytes.extend(checksum.to_be_bytes());
    }
    bytes
}

/// The chunks of a PNG file.
fn parts_of(png: &[u8]) -> Vec<([u8; 4], Vec<u8>)> {
    let mut parts = Vec::new();
    let mut rest = &png[8..];
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        parts.push((tail[..4].try_into().unwrap(), tail[4..4 + length].to_vec()));
        rest = &tail[8 + length..];
    }
    parts
}

#[test]
fn damage_that_leaves_a_png_s_pixels_alone_costs_nothing() {
    let picture = Picture::new(5, 3, (0..45).map(|i| i * 5).collect()).unwrap();
    let whole = png::encode(&picture, &PngText::default()).unwrap();
    let parts = parts_of(&whole);
    let with = |before: usize, new: &[(&[u8; 4], &[u8])]| {
        let mut chunks: Vec<(&[u8; 4], &[u8])> = parts.iter().map(|(kind, data)| (kind, &data[..])).collect();
        chunks.splice(before..before, new.iter().copied());
        png_of(&chunks)
    };
    let mut broken_text = with(1, &[(b"tEXt", b"Comment\0hello")]);
    let at = broken_text.windows(5).position(|window| window == b"hello").unwrap();
    broken_text[at] ^= 1;
    let mut broken_crc = whole.clone();
    let at = whole.windows(4).position(|window| window == b"IEND").unwrap() - 5;
    broken_crc[at] ^= 1;
    let cases = [
        ("a text with another checksum", broken_text),
        ("pixels whose chunk has another checksum, but not they", broken_crc),
        ("a chunk that nobody knows", with(1, &[(b"ABCD", b"x")])),
        ("two palettes that are not used", with(1, &[(b"PLTE", &[0; 6]), (b"PLTE", &[0; 7])])),
        ("a profile that is none", with(1, &[(b"iCCP", b"icc\0\0no zlib stream")])),
        ("something before the header", with(0, &[(b"CgBI", b"\0\0\0\0")])),
        ("no end mark", whole[..whole.len() - 12].to_vec()),
        ("something behind the end mark", [&whole[..], b"more"].concat()),
    ];
    let mut failures = Vec::new();
    for (what, bytes) in cases {
        match decode::decode(&bytes, &options()) {
            Ok(decoded) if decoded == picture => {}
            Ok(_) => failures.push(format!("{what}: another picture")),
            Err(error) => failures.push(format!("{what}: {error:#}")),
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    let mut both = whole.clone();
    let at = whole.windows(4).position(|window| window == b"IEND").unwrap() - 9;
    both[at] ^= 1;
    let message = format!("{:#}", decode::decode(&both, &options()).unwrap_err());
    assert!(message.contains("neither checksum"), "{message}");
}

#[test]
fn a_palette_of_any_length_is_read_or_refused() {
    let palette_of = |bytes: &[u8]| {
        let header = [&2u32.to_be_bytes()[..], &1u32.to_be_bytes(), &[8, 3, 0, 0, 0]].concat();
        let grey = png::encode(&Picture::with_channels(2, 1, 1, vec![0, 0]).unwrap(), &PngText::default()).unwrap();
        let pixels = parts_of(&grey).into_iter().find(|(kind, _)| kind == b"IDAT").unwrap().1;
        png_of(&[(b"IHDR", &header), (b"PLTE", bytes), (b"tRNS", &[255; 300]), (b"IDAT", &pixels), (b"IEND", b"")])
    };
    for length in [1, 2, 3, 4, 5, 6, 7, 767, 768, 769, 3000] {
        match decode::decode(&palette_of(&vec![9; length]), &options()) {
            Ok(picture) => assert!(length >= 3 && picture.pixels() == [9; 6], "{length}"),
            Err(error) => assert!(length < 3 && error.kind() == ErrorKind::Data, "{length}: {error:#}"),
        }
    }
}

#[test]
fn what_decoding_holds_at_once_is_counted_before_it_is_allocated() {
    // 4096x4096: 16 MiB grey, 48 MiB more as RGB
    let grey = Picture::with_channels(4096, 4096, 1, vec![7; 1 << 24]).unwrap();
    let bytes = png::encode(&grey, &PngText::default()).unwrap();
    for (channels, mebibytes) in [(1, 16), (2, 48), (3, 64), (4, 80)] {
        let enough = DecodeOptions { channels, max_bytes: mebibytes << 20, ..options() };
        assert!(decode::decode(&bytes, &enough).is_ok(), "{channels}");
        let less = DecodeOptions { max_bytes: (mebibytes << 20) - 1, ..enough };
        let message = format!("{:#}", decode::decode(&bytes, &less).unwrap_err());
        assert!(message.contains("of 4096x4096 is too large"), "{channels}: {message}");
    }
    // a frame of 16384x16384 that comes in rounds: its coefficients alone would take gigabytes
    let mut bomb = golden("progressive.jpg");
    let frame = bomb.windows(2).position(|pair| pair == [0xFF, 0xC2]).unwrap();
    bomb[frame + 5..frame + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
    let message = format!("{:#}", decode::decode(&bomb, &options()).unwrap_err());
    assert!(message.contains("of 16384x16384 is too large"), "{message}");
}

#[test]
fn a_text_that_unpacks_to_more_than_any_record_is_refused() {
    let packed = |text: &[u8]| {
        // stored blocks between zlib's header and checksum
        let mut zlib = vec![0x78, 1];
        let blocks = text.chunks(65535);
        let last = blocks.len() - 1;
        for (i, block) in blocks.enumerate() {
            zlib.push(u8::from(i == last));
            zlib.extend((block.len() as u16).to_le_bytes());
            zlib.extend((!(block.len() as u16)).to_le_bytes());
            zlib.extend(block);
        }
        let (mut a, mut b) = (1u32, 0u32);
        for &byte in text {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        zlib.extend((b << 16 | a).to_be_bytes());
        let picture = png::encode(&Picture::filled(1, 1, [0; 3]), &PngText::default()).unwrap();
        let parts = parts_of(&picture);
        let text = [b"imagen\0\0", &zlib[..]].concat();
        let mut chunks: Vec<(&[u8; 4], &[u8])> = parts.iter().map(|(kind, data)| (kind, &data[..])).collect();
        chunks.insert(1, (b"zTXt", &text));
        png_of(&chunks)
    };
    let read = |text: &[u8]| png::read_text(&packed(text), &options());
    assert_eq!(read(b"{\"v\":1}").unwrap().imagen.as_deref(), Some("{\"v\":1}"));
    let message = format!("{:#}", read(&vec![b' '; 5 << 20]).unwrap_err());
    assert!(message.contains("longer than 4194304 bytes"), "{message}");
    // nor does it keep the picture from being read
    assert!(decode::decode(&packed(&vec![b' '; 5 << 20]), &options()).is_ok());
}

#[test]
fn pictures_are_read_from_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    let error = decode::open(folder.path(), &options()).unwrap_err();
    assert!(error.kind() == ErrorKind::Data && format!("{error:#}").contains("is a folder"), "{error:#}");
    #[cfg(unix)]
    {
        let pipe = folder.path().join("pipe.png");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for read in [decode::open(&pipe, &options()).map(|_| ()), decode::size(&pipe).map(|_| ())] {
            let message = format!("{:#}", read.unwrap_err());
            assert!(message.contains("a pipe, a socket or a device"), "{message}");
        }
    }
}

#[test]
fn gif_and_bmp_are_read() {
    for format in [ImageFormat::Gif, ImageFormat::Bmp] {
        let picture = decode::decode(&encoded(&landmark(8, 8).into(), format), &options()).unwrap();
        assert!(close(picture.pixel(7, 7), [0, 0, 255], 8), "{format:?}");
    }
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
