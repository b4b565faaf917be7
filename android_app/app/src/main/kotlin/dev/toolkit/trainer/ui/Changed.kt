package dev.toolkit.trainer.ui

import android.text.Editable
import android.text.TextWatcher

/** Calls [act] after every change of a field. */
class Changed(private val act: () -> Unit) : TextWatcher {
    override fun afterTextChanged(text: Editable) = act()

    override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit

    override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit
}
