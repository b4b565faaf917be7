package dev.toolkit.trainer.ui

import android.content.ClipData
import android.content.ClipboardManager
import android.content.Context
import android.content.Intent
import android.net.Uri
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.Switch
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.Reply
import dev.toolkit.trainer.service.Answer
import dev.toolkit.trainer.service.Side
import dev.toolkit.trainer.service.Throttle
import dev.toolkit.trainer.store.Sample
import dev.toolkit.trainer.tokenizer.TokenizerFile

/** "Try it": one beginning of a text, gone on with by the model before and after a run trained it. */
class AskActivity : Screen() {
    private lateinit var run: String
    private val throttle = Throttle(REFRESH) { showAnswers() }
    private val onChange: () -> Unit = { throttle.request() }
    private val onOver: (String) -> Unit = { problem ->
        if (isOwn) text(R.id.problem).message(problem)
        showAnswers()
    }

    /** Whether what was asked last was asked of this run. */
    private val isOwn get() = app.asking.question?.first == run

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        run = intent.getStringExtra(NAME).orEmpty()
        show(R.layout.activity_ask, getString(R.string.ask), up = true)
        text(R.id.run_name).text = run
        val asked = app.asking.question?.takeIf { it.first == run }
        if (savedInstanceState == null && asked != null) field().setText(asked.second)
        requireViewById<View>(R.id.go).setOnClickListener { go() }
        requireViewById<View>(R.id.halt).setOnClickListener { app.asking.stop() }
        for ((side, id) in CARDS) card(id).requireViewById<View>(R.id.copy).setOnClickListener { copy(side) }
        text(R.id.before, R.id.title).setText(R.string.answer_before)
        text(R.id.after, R.id.title).setText(R.string.answer_after)
        if (savedInstanceState == null && !app.asking.errand.running) app.asking.errand.forget()
        app.asking.errand.attach(onOver)
        app.asking.addListener(onChange)
        chat().setOnCheckedChangeListener { _, _ -> showWords() }
        if (savedInstanceState == null) chat().isChecked = asked == null || app.asking.inChat
        val fresh = savedInstanceState == null && asked == null
        inBackground({ Readiness(Engine.available, hasTemplate(), fresh && app.runs.find(run)?.let(Sample::isOf) == true) }) {
            if (!it.available) text(R.id.problem).message(getString(R.string.no_engine_title))
            requireViewById<View>(R.id.go).isEnabled = it.available
            chat().visible(it.template)
            showWords()
            if (it.available && it.sample) askOfSample()
        }
        showAnswers()
    }

    override fun onStop() {
        // It costs battery, and nobody looks.
        if (!isChangingConfigurations && isOwn) app.asking.stop()
        super.onStop()
    }

    override fun onDestroy() {
        throttle.cancel()
        app.asking.removeListener(onChange)
        app.asking.errand.detach(onOver)
        super.onDestroy()
    }

    /** Whoever tries the sample for the first time sees it write without having to think of something. */
    private fun askOfSample() {
        if (field().text.isNotEmpty() || app.asking.errand.running) return
        field().setText(R.string.sample_prompt)
        go()
    }

    private fun go() {
        val prompt = field().text.toString()
        if (prompt.isBlank()) {
            field().error = getString(R.string.ask_empty)
            field().requestFocus()
            return
        }
        text(R.id.problem).message(null)
        app.asking.ask(run, prompt, isChat)
        showAnswers()
    }

    private fun showAnswers() {
        if (isDestroyed) return
        val own = isOwn
        val running = app.asking.errand.running
        requireViewById<View>(R.id.go).visible(!running)
        requireViewById<View>(R.id.halt).visible(running && own)
        // Nobody touches it while it writes, and a screen that goes dark would end the answer.
        requireViewById<View>(R.id.scroll).keepScreenOn = running && own
        for ((side, id) in CARDS) show(id, if (own) app.asking.answer(side) else null, running && own)
    }

    private fun show(id: Int, answer: Answer?, running: Boolean) {
        text(id, R.id.answer).message(answer?.text)
        val reply = answer?.reply
        text(id, R.id.speed).message(if (reply != null) outcome(reply) else progress(answer, running))
        card(id).requireViewById<Button>(R.id.copy).visible(!answer?.text.isNullOrEmpty())
    }

    /** How an answer ended, and how fast it came. */
    private fun outcome(reply: Reply): String {
        val speed = reply.tokensPerSecond?.let { getString(R.string.answer_speed, Numbers.count(reply.tokens), Numbers.perSecond(it)) }
        return when {
            reply.reason == CANCELLED -> listOfNotNull(getString(R.string.answer_stopped), speed).joinToString(" · ")
            reply.tokens == 0L -> getString(R.string.answer_short)
            else -> speed ?: getString(R.string.answer_one)
        }
    }

    private fun progress(answer: Answer?, running: Boolean): String = getString(
        when {
            running && answer == null -> R.string.answer_waits
            running -> if (answer!!.text.isEmpty()) R.string.answer_reads else R.string.answer_writes
            isOwn -> R.string.answer_missed
            else -> R.string.answer_none
        },
    )

    private fun copy(side: Side) {
        val answer = app.asking.answer(side) ?: return
        getSystemService(ClipboardManager::class.java)!!.setPrimaryClip(ClipData.newPlainText(getString(R.string.ask), answer.text))
        tell(getString(R.string.copied))
    }

    /** What is there to ask: the engine, a chat's template; and whether it is the sample's first time. */
    private class Readiness(val available: Boolean, val template: Boolean, val sample: Boolean)

    private fun hasTemplate(): Boolean {
        val bundle = app.runs.find(run)?.let { app.bundles.find(it.bundle) } ?: return false
        return bundle.problem == null && TokenizerFile(bundle.folder).chatTemplate() != null
    }

    private fun chat(): Switch = requireViewById(R.id.as_chat)

    /** A message to the model, or the beginning of a text that it goes on with. */
    private val isChat get() = chat().run { visibility == View.VISIBLE && isChecked }

    private fun showWords() {
        text(R.id.intro).setText(if (isChat) R.string.ask_intro_chat else R.string.ask_intro)
        text(R.id.prompt_label).setText(if (isChat) R.string.ask_message else R.string.ask_prompt)
        requireViewById<Button>(R.id.go).setText(if (isChat) R.string.ask_send else R.string.ask_go)
    }

    private fun field(): EditText = requireViewById(R.id.prompt)

    private fun card(id: Int): View = requireViewById(id)

    private fun text(card: Int, id: Int): TextView = card(card).requireViewById(id)

    companion object {
        private const val NAME = "name"
        private const val REFRESH = 100L

        /** The engine's word for a reply that was ended from outside. */
        private const val CANCELLED = "cancel"
        private val CARDS = mapOf(Side.BEFORE to R.id.before, Side.AFTER to R.id.after)

        fun intent(context: Context, run: String): Intent =
            Intent(context, AskActivity::class.java).setData(Uri.fromParts("run", run, null)).putExtra(NAME, run)
    }
}
