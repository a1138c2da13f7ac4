// What the page says, in English and in Vietnamese.

const EN = {
  title: "Imagen: pictures from words", skip: "Skip to the page", draw_page: "Draw", gallery: "Gallery", help: "Help",
  prompt: "What to draw", prompt_hint: "A red apple…", draw: "Draw", drafts: "Nine drafts", drafts_hint: "Nine small pictures at once: choose some, and enlarge only those",
  size: "Size", settings: "Settings", cancel: "Cancel", count: "Pictures", seed: "Seed", random: "random", dice: "Another random seed", model: "Model",
  base: "Base, {size} pixels", sr256: "Enlarged to {size} pixels", sr1024: "Enlarged to {size} pixels",
  negative: "Keep away from", guidance_interval: "Guided at noise levels", guidance_rescale: "Guidance rescale", spacing: "Spacing of steps", steps: "Steps", guidance: "Guidance", sampler: "Sampler", thresholding: "Out-of-range colours", aug_level: "Noise before enlarging", precision: "Precision",
  step_of: "step {step} of {of}", stage_now: "{size} pixels, step {step} of {of}", seconds: "{n} s", left: "about {n} s left", memory: "{n} MB of memory", took: "drawn in {n} s",
  queued: "Waiting", position: "Number {n} in the queue", begins: "begins in about {n} s", running: "Drawing", done: "Done", failed: "It failed", cancelled: "Cancelled", interrupted: "The server ended in the middle of it",
  run_again: "Run again", enlarge: "Enlarge {n} chosen to {size}", enlarge_none: "Choose some to enlarge", nine_others: "Nine others", pick: "Draft {n}, seed {seed}", picked: "{n} chosen",
  try: "For example", recent: "Latest pictures", no_recent: "Your pictures will hang here.", all: "All pictures",
  search: "Search in prompts", favourites: "Favourites", more: "More", nothing: "No picture is like that.", empty: "Nothing has been drawn yet.",
  close: "Close", open: "Open {prompt}", favourite: "Favourite", unfavourite: "No favourite", download: "Download", remove: "Delete", removed: "The picture is deleted.", undo: "Undo", same: "Use these settings", vary: "Vary", bigger: "Enlarge to {size}",
  how: "How was this made?", command: "The command that draws it again", copy: "Copy", copied: "Copied.", drawn_at: "Drawn", stage: "Stage",
  compare: "Compare", compare_pick: "Choose the picture to compare with", compare_with: "Compared", slider: "Where the one picture ends and the other begins", flip: "Flip", difference: "Difference",
  axes: "A sheet of settings", axis: "Axis", values: "Values, with commas", axes_draw: "Draw the sheet", axes_first: "Choose an axis and its values first.", axes_many: "{n} pictures are too many at once: at most {most}.", axes_stage: "An axis is of a stage that does not run: choose a larger size.", axes_ready: "{n} of {all} pictures", axes_png: "Save as PNG", axes_json: "Save as JSON",
  train_page: "Train", loss: "Loss", validation: "Validation", captions_worth: "Loss with the right, with no and with others' captions", right_caption: "right captions", no_caption: "no captions", shuffled_captions: "others' captions", grids: "Samples over time", grid_of: "{name}, step {step}", per_second: "{n} pictures a second", minutes_left: "about {n} min left", alive: "training", no_runs: "There is no run in this folder yet.",
  film: "Steps: look back at how it came to be", film_now: "now",
  theme: "Light or dark", theme_light: "Light", theme_dark: "Dark", language: "VI", language_label: "VI: đổi sang tiếng Việt",
  queue_one: "1 job waits, about {s} s", queue_other: "{n} jobs wait, about {s} s", drop: "Drop a picture that Imagen drew to take its settings", dropped: "Settings taken from the picture.", drop_none: "This picture holds no settings of Imagen.", drop_large: "This file is too large to be a picture of Imagen.",
  keys: "Keys", key_draw: "Draw", key_cancel: "Cancel what is being drawn", key_drafts: "Nine drafts", key_pages: "Draw, Gallery, Train", key_prompt: "Back to the prompt", key_gallery: "Next and previous picture", key_help: "This help", key_flip: "Flip, when comparing",
  about: "The model draws a small picture of 64 pixels first and enlarges it. Each step shows what the model takes the finished picture to be: in a pixel cascade that is a picture already, so that watching costs nothing.",
  lost: "The server does not answer; trying again…", back: "The server is back.", retry: "try again in {n} s", first: "Write what to draw first.", beyond: "The picture {n} of {all} is ready.", started: "Drawing {prompt}.", ready: "{n} pictures are ready.", ready_one: "The picture is ready.",
};

const VI = {
  title: "Imagen: vẽ tranh từ lời", skip: "Đến thẳng nội dung", draw_page: "Vẽ", gallery: "Bộ sưu tập", help: "Trợ giúp",
  prompt: "Bạn muốn vẽ gì?", prompt_hint: "A red apple…", draw: "Vẽ", drafts: "Chín bản nháp", drafts_hint: "Chín ảnh nhỏ cùng lúc: chọn vài ảnh rồi chỉ phóng to những ảnh đó",
  size: "Cỡ ảnh", settings: "Tuỳ chọn", cancel: "Huỷ", count: "Số ảnh", seed: "Hạt giống", random: "ngẫu nhiên", dice: "Hạt giống ngẫu nhiên khác", model: "Mô hình",
  base: "Ảnh gốc, {size} điểm ảnh", sr256: "Phóng to lên {size} điểm ảnh", sr1024: "Phóng to lên {size} điểm ảnh",
  negative: "Tránh xa", guidance_interval: "Mức nhiễu được dẫn", guidance_rescale: "Kéo độ dẫn về", spacing: "Giãn cách bước", steps: "Số bước", guidance: "Mức bám theo lời", sampler: "Cách lấy mẫu", thresholding: "Màu vượt ngưỡng", aug_level: "Nhiễu trước khi phóng to", precision: "Độ chính xác",
  step_of: "bước {step} trên {of}", stage_now: "{size} điểm ảnh, bước {step} trên {of}", seconds: "{n} giây", left: "còn khoảng {n} giây", memory: "{n} MB bộ nhớ", took: "vẽ trong {n} giây",
  queued: "Đang chờ", position: "Thứ {n} trong hàng đợi", begins: "bắt đầu sau khoảng {n} giây", running: "Đang vẽ", done: "Xong", failed: "Không vẽ được", cancelled: "Đã huỷ", interrupted: "Máy chủ đã dừng giữa chừng",
  run_again: "Vẽ lại", enlarge: "Phóng to {n} ảnh đã chọn lên {size}", enlarge_none: "Chọn ảnh để phóng to", nine_others: "Chín ảnh khác", pick: "Bản nháp {n}, hạt giống {seed}", picked: "Đã chọn {n} ảnh",
  try: "Ví dụ", recent: "Ảnh mới nhất", no_recent: "Ảnh của bạn sẽ treo ở đây.", all: "Tất cả ảnh",
  search: "Tìm trong lời mô tả", favourites: "Yêu thích", more: "Xem thêm", nothing: "Không có ảnh nào như vậy.", empty: "Chưa có ảnh nào.",
  close: "Đóng", open: "Mở {prompt}", favourite: "Yêu thích", unfavourite: "Bỏ yêu thích", download: "Tải về", remove: "Xoá", removed: "Đã xoá ảnh.", undo: "Hoàn tác", same: "Dùng lại các tuỳ chọn này", vary: "Biến tấu", bigger: "Phóng to lên {size}",
  how: "Ảnh này được vẽ thế nào?", command: "Lệnh để vẽ lại ảnh này", copy: "Sao chép", copied: "Đã sao chép.", drawn_at: "Vẽ lúc", stage: "Giai đoạn",
  compare: "So sánh", compare_pick: "Chọn ảnh để so sánh", compare_with: "So sánh", slider: "Ranh giới giữa hai ảnh", flip: "Đổi chỗ", difference: "Khác biệt",
  axes: "Bảng so sánh tuỳ chọn", axis: "Trục", values: "Các giá trị, cách nhau bằng dấu phẩy", axes_draw: "Vẽ bảng", axes_first: "Hãy chọn một trục và các giá trị trước.", axes_many: "{n} ảnh là quá nhiều cùng lúc: nhiều nhất {most}.", axes_stage: "Một trục thuộc giai đoạn không chạy: hãy chọn cỡ ảnh lớn hơn.", axes_ready: "{n} trên {all} ảnh", axes_png: "Lưu thành PNG", axes_json: "Lưu thành JSON",
  train_page: "Huấn luyện", loss: "Sai số", validation: "Kiểm định", captions_worth: "Sai số với mô tả đúng, không mô tả và mô tả của ảnh khác", right_caption: "mô tả đúng", no_caption: "không mô tả", shuffled_captions: "mô tả của ảnh khác", grids: "Ảnh mẫu theo thời gian", grid_of: "{name}, bước {step}", per_second: "{n} ảnh mỗi giây", minutes_left: "còn khoảng {n} phút", alive: "đang huấn luyện", no_runs: "Thư mục này chưa có lần huấn luyện nào.",
  film: "Các bước: xem lại ảnh đã thành hình ra sao", film_now: "hiện tại",
  theme: "Sáng hoặc tối", theme_light: "Sáng", theme_dark: "Tối", language: "EN", language_label: "EN: switch to English",
  queue_one: "1 việc đang chờ, khoảng {s} giây", queue_other: "{n} việc đang chờ, khoảng {s} giây", drop: "Thả ảnh do Imagen vẽ vào đây để lấy lại tuỳ chọn", dropped: "Đã lấy tuỳ chọn từ ảnh.", drop_none: "Ảnh này không chứa tuỳ chọn của Imagen.", drop_large: "Tệp này quá lớn, không thể là ảnh của Imagen.",
  keys: "Phím tắt", key_draw: "Vẽ", key_cancel: "Huỷ việc đang vẽ", key_drafts: "Chín bản nháp", key_pages: "Vẽ, Bộ sưu tập, Huấn luyện", key_prompt: "Về ô mô tả", key_gallery: "Ảnh sau, ảnh trước", key_help: "Trợ giúp này", key_flip: "Đổi chỗ, khi so sánh",
  about: "Mô hình vẽ một ảnh nhỏ 64 điểm ảnh trước rồi phóng to. Mỗi bước cho thấy mô hình đang hình dung bức ảnh hoàn chỉnh ra sao: trong một chuỗi mô hình điểm ảnh, đó đã là một bức ảnh, nên xem không tốn thêm gì.",
  lost: "Máy chủ không trả lời; đang thử lại…", back: "Máy chủ đã trở lại.", retry: "thử lại sau {n} giây", first: "Hãy viết điều muốn vẽ trước.", beyond: "Ảnh {n} trên {all} đã xong.", started: "Đang vẽ {prompt}.", ready: "{n} ảnh đã xong.", ready_one: "Ảnh đã xong.",
};

const ALL = { en: EN, vi: VI };
const chosen = localStorage.getItem("imagen.language") ?? (navigator.language.startsWith("vi") ? "vi" : "en");

/** The language of the page. */
export const language = chosen in ALL ? chosen : "en";

/** A sentence, with what stands in its braces. */
export const say = (key, values = {}) =>
  (ALL[language][key] ?? EN[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));

/** A number as people of the language write it. */
export const number = (value, digits = 0) => value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** A moment as people of the language write it. */
export const moment = (ms) => new Date(ms).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });

/** Changes to the other language; the page is made anew. */
export const other = () => {
  localStorage.setItem("imagen.language", language === "en" ? "vi" : "en");
  location.reload();
};

/** Says what the page's own elements say. */
export const sayAll = () => {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = say(element.dataset.say);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
};
