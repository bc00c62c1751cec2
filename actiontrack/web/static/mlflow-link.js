// On a run of MLflow's pages the link leads to the same run of ours.
(() => {
  const link = document.getElementById("actiontrack-link");
  if (!link) return;
  const home = link.getAttribute("href");
  const follow = () => {
    const found = /\/runs\/([0-9a-f]{32})/.exec(window.location.hash || window.location.pathname);
    link.setAttribute("href", found ? `${home}run?run=${found[1]}` : home);
  };
  window.addEventListener("hashchange", follow);
  window.addEventListener("popstate", follow);
  link.addEventListener("pointerenter", follow);
  link.addEventListener("focus", follow);
  link.addEventListener("click", follow, true);
  follow();
})();
