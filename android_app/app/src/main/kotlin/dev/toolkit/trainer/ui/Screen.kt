package dev.toolkit.trainer.ui

import android.app.Activity
import android.app.AlertDialog
import android.app.Dialog
import android.content.ActivityNotFoundException
import android.content.Context
import android.content.Intent
import android.os.Bundle
import android.os.Handler
import android.os.Looper
import android.util.Log
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Button
import android.widget.Spinner
import android.widget.TextView
import android.widget.Toast
import android.widget.Toolbar
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import java.util.concurrent.ExecutorService
import java.util.concurrent.Executors

/** What all screens share: the bar, access to the app, and work off the main thread. */
abstract class Screen : Activity() {
    protected val app: TrainerApp get() = TrainerApp.of(this)
    private var worker: ExecutorService? = null
    private val main = Handler(Looper.getMainLooper())

    /** Sets the layout and its bar; [up] shows the arrow back. */
    protected fun show(layout: Int, title: CharSequence, up: Boolean) {
        setContentView(layout)
        Edges.spread(this)
        setTitle(title)
        val bar = requireViewById<Toolbar>(R.id.bar)
        setActionBar(bar)
        bar.title = title
        if (!up) return
        bar.setNavigationIcon(R.drawable.ic_back)
        bar.setNavigationContentDescription(R.string.back)
        bar.setNavigationOnClickListener { leave() }
    }

    /** A screen that a notification opened has none below it. */
    private fun leave() {
        if (isTaskRoot) parentActivityIntent?.let(::startActivity)
        finish()
    }

    /** Runs [work] on one background thread, in order, then [done] here unless the screen is gone. */
    fun <T> inBackground(work: () -> T, done: (T) -> Unit) {
        if (isDestroyed) return
        val executor = worker ?: Executors.newSingleThreadExecutor().also { worker = it }
        executor.execute {
            try {
                val result = work()
                main.post { if (!isDestroyed) done(result) }
            } catch (error: Throwable) {
                // A mistake on a screen must not end the run that trains.
                Log.e("toolkit", "work of a screen", error)
                main.post { tell(getString(R.string.unexpected, error.toString())) }
            }
        }
    }

    /** One of the system's settings pages. */
    fun openSettings(intent: Intent) {
        try {
            startActivity(intent)
        } catch (_: ActivityNotFoundException) {
            // Some makers leave this page out; their own list of apps has it.
            tell(getString(R.string.no_such_settings))
        }
    }

    fun tell(words: String) = Toast.makeText(this, words, Toast.LENGTH_LONG).show()

    private val questions = HashMap<String, (String) -> Unit>()
    private var asked: Pair<String, String>? = null
    private var question: Dialog? = null
    private var answered: Bundle? = null

    /** What is asked about something goes by [name]; [ask] asks it again on the screen of a phone that was turned meanwhile. */
    fun asks(name: String, ask: (String) -> Unit) {
        questions[name] = ask
    }

    /** Keeps an open dialog, with what was entered, over a turn of the phone: [name] of [asks] is asked of [about] again. */
    fun keep(name: String, about: String, dialog: Dialog) {
        // Another question than the one that was open has nothing of its answer.
        if (asked == name to about) answered?.let(dialog::onRestoreInstanceState)
        answered = null
        asked = name to about
        // Of a second tap.
        question?.dismiss()
        question = dialog
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        val (name, about) = asked ?: return
        val open = question?.takeIf { it.isShowing } ?: return
        outState.putStringArray(ASKED, arrayOf(name, about))
        outState.putBundle(ANSWERED, open.onSaveInstanceState())
    }

    override fun onRestoreInstanceState(savedInstanceState: Bundle) {
        super.onRestoreInstanceState(savedInstanceState)
        val (name, about) = savedInstanceState.getStringArray(ASKED) ?: return
        answered = savedInstanceState.getBundle(ANSWERED)
        asked = name to about
        questions[name]?.invoke(about)
    }

    override fun onDestroy() {
        worker?.shutdown()
        question?.dismiss()
        super.onDestroy()
    }

    /** Asks before something is deleted, which cannot be undone; [name] and [about] as [keep] has them. */
    fun askToDelete(name: String, about: String, vararg question: String?, act: () -> Unit) {
        val dialog = AlertDialog.Builder(this).setTitle(R.string.delete_title).setMessage(question.filterNotNull().joinToString("\n\n"))
            .setNegativeButton(R.string.cancel, null).setPositiveButton(R.string.delete) { _, _ -> act() }.show()
        dialog.getButton(AlertDialog.BUTTON_POSITIVE).setTextColor(getColor(R.color.error))
        keep(name, about, dialog)
    }

    /** "1 sequence", "18 sequences". */
    fun sequences(count: Int): String =
        resources.getQuantityString(R.plurals.sequences, count, Numbers.count(count.toLong()))

    protected fun text(id: Int): TextView = requireViewById(id)

    companion object {
        const val REFRESH_MILLISECONDS = 1000L
        private const val ASKED = "asked"
        private const val ANSWERED = "answered"

        /** Shows a message, or hides the view when there is none. */
        fun TextView.message(text: String?) {
            visibility = if (text.isNullOrEmpty()) View.GONE else View.VISIBLE
            if (this.text.toString() != text.orEmpty()) this.text = text.orEmpty()
        }

        /** Greys it out where it is not [possible] or something stands against it, which is said [below], to TalkBack with the button. */
        fun Button.allow(possible: Boolean, below: TextView, why: String?) {
            isEnabled = possible && why == null
            below.message(why)
            contentDescription = why?.let { "$text. $it" }
        }

        fun View.visible(visible: Boolean) {
            visibility = if (visible) View.VISIBLE else View.GONE
        }

        /** Fills a drop-down and chooses [selected], or the first if there is no such line. */
        fun Spinner.fill(labels: List<String>, selected: Int, onChoice: (Int) -> Unit) {
            adapter = choices(context, labels)
            if (labels.isNotEmpty()) setSelection(selected.coerceIn(0, labels.size - 1), false)
            onItemSelectedListener = object : AdapterView.OnItemSelectedListener {
                override fun onItemSelected(parent: AdapterView<*>?, view: View?, position: Int, id: Long) = onChoice(position)

                override fun onNothingSelected(parent: AdapterView<*>?) = Unit
            }
        }

        private fun choices(context: Context, labels: List<String>) =
            ArrayAdapter(context, R.layout.item_choice, labels).apply { setDropDownViewResource(R.layout.item_choice_open) }
    }
}
