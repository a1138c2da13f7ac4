// Before anything is painted: the theme and the language that were chosen the last time.
const theme = localStorage.getItem("imagen.theme");
if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
