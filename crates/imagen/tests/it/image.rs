//! Pictures from outside and pictures for outside: decode limits, formats, resize against Pillow, PNG text.

mod jpeg;
mod png_files;
mod resize;

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
