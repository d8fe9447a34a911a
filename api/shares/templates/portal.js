"use strict";
(() => {
  // The token is in the fragment, which no server is sent: it goes on in a form, and out of the address.
  const found = location.hash.match(/pds_[A-Za-z0-9._-]+/);
  if (found) history.replaceState(null, "", location.pathname);
  const form = document.querySelector("form[data-open]");
  if (form) {
    form.addEventListener("submit", () => {
      const pasted = form.elements.token.value.match(/pds_[A-Za-z0-9._-]+/);
      if (pasted) form.elements.token.value = pasted[0];
    });
    if (found) {
      form.elements.token.value = found[0];
      form.submit();
    }
    return;
  }
  const seconds = Number(document.querySelector("main").dataset.refresh);
  if (!seconds) return;
  const stale = document.getElementById("stale");
  const look = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store", redirect: "error" });
      if (answer.status === 401 || answer.status === 404) return location.reload();
      if (!answer.ok) throw new Error(answer.status);
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const next = fresh.getElementById(part.id);
        if (next && next.innerHTML !== part.innerHTML) part.replaceWith(document.adoptNode(next));
      }
      stale.hidden = true;
    } catch {
      stale.hidden = false;
    }
  };
  setInterval(look, seconds * 1000);
})();
