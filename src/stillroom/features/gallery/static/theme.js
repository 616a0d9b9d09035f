// Runs before the first paint, so that a chosen theme does not flash in the other one.
{
  const chosen = localStorage.getItem("stillroom.theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
