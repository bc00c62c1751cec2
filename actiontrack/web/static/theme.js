// Before the first paint: the theme that the reader chose, if any; else the system's.
"use strict";
{
  const chosen = window.localStorage.getItem("actiontrack-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
