// The reader came to type: put the cursor into the field.
const field = document.querySelector("#main-content form.bd-search input");
if (field) {
  field.focus();
  field.select();
}
