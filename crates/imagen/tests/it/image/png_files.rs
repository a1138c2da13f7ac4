//! PNG files: their texts, chunks that are damaged or promise too much, palettes.

use super::*;

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
fn a_png_has_the_colour_type_of_its_picture() {
    for (channels, kind) in [(1, 0), (2, 4), (3, 2), (4, 6)] {
        let picture = Picture::with_channels(2, 1, channels, (0..2 * channels as u8).collect()).unwrap();
        let bytes = png::encode(&picture, &PngText::default()).unwrap();
        assert_eq!(bytes[25], kind, "the colour type follows the sides and the depth");
        assert_eq!(decode::decode(&bytes, &DecodeOptions { channels, ..options() }).unwrap(), picture);
    }
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
