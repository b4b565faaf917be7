package dev.toolkit.trainer.ui

import android.content.Context
import android.os.Bundle
import android.view.View
import android.widget.Button
import dev.toolkit.trainer.R
import dev.toolkit.trainer.engine.Engine

/** What the app does, where the text stays and what it needs, in three pages; from the last one a first run begins. */
class WelcomeActivity : Screen() {
    private class Page(val title: Int, val words: Int)

    private var page = 0
    private val onSampled: (Sampled) -> Unit = { begun(it) }

    @Volatile private var engine = false

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.activity_welcome)
        Edges.spread(this)
        setTitle(R.string.welcome)
        page = savedInstanceState?.getInt(PAGE) ?: 0
        // Whoever leaves it has seen it; Settings show it again.
        preferences(this).edit().putBoolean(SEEN, true).apply()
        requireViewById<View>(R.id.next).setOnClickListener { turn(1) }
        requireViewById<View>(R.id.previous).setOnClickListener { turn(-1) }
        requireViewById<View>(R.id.skip).setOnClickListener { finish() }
        requireViewById<View>(R.id.sample).setOnClickListener { begin() }
        inBackground({ Engine.available }) {
            engine = it
            if (!it) text(R.id.problem).message(getString(R.string.no_engine_title))
            show()
        }
    }

    /** While it is looked at: from the background the system lets no app open a page. */
    override fun onStart() {
        super.onStart()
        show()
        app.sampling.attach(onSampled)
    }

    override fun onStop() {
        app.sampling.detach(onSampled)
        super.onStop()
    }

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putInt(PAGE, page)
    }

    private fun turn(by: Int) {
        page = (page + by).coerceIn(PAGES.indices)
        requireViewById<View>(R.id.scroll).scrollTo(0, 0)
        show()
    }

    private fun show() {
        val last = page == PAGES.lastIndex
        text(R.id.title).setText(PAGES[page].title)
        text(R.id.words).setText(PAGES[page].words)
        text(R.id.place).text = getString(R.string.welcome_place, page + 1, PAGES.size)
        requireViewById<View>(R.id.previous).visible(page > 0)
        requireViewById<View>(R.id.next).visible(!last)
        requireViewById<View>(R.id.skip).visible(last || page == 0)
        requireViewById<Button>(R.id.skip).setText(if (last) R.string.welcome_own else R.string.welcome_skip)
        requireViewById<Button>(R.id.sample).apply {
            visible(last)
            isEnabled = engine && !app.sampling.running
            setText(if (app.sampling.running) R.string.sample_making else R.string.sample_try)
        }
    }

    private fun begin() {
        text(R.id.problem).message(null)
        FirstRun.prepare(app)
        show()
    }

    private fun begun(sampled: Sampled) {
        show()
        text(R.id.problem).message(sampled.problem)
        val run = sampled.run ?: return
        FirstRun.open(this, run)
        finish()
    }

    companion object {
        private const val PAGE = "page"
        private const val SEEN = "welcomed"
        private val PAGES = listOf(
            Page(R.string.welcome_learns, R.string.welcome_learns_words),
            Page(R.string.welcome_stays, R.string.welcome_stays_words),
            Page(R.string.welcome_needs, R.string.welcome_needs_words),
        )

        private fun preferences(context: Context) = context.getSharedPreferences("screen", Context.MODE_PRIVATE)

        fun wasSeen(context: Context) = preferences(context).getBoolean(SEEN, false)
    }
}
