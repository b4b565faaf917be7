package dev.toolkit.trainer

import android.app.Activity
import android.content.Intent
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.RadioButton
import android.widget.Spinner
import android.widget.Switch
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.ui.AskActivity
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.TextActivity
import org.json.JSONObject
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import java.io.File

/** A chat that another app shares, through every screen to a model that answers in its chat template, with the real engine. */
@RunWith(RobolectricTestRunner::class)
class ChatRunTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp
    private val replies = Fixtures.replies()

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary, listOf("chats"))
        File(Fixtures.deployed(), "data").deleteRecursively()
    }

    @After
    fun end() {
        app.asking.stop()
        await("the end of an answer") { !app.asking.errand.running }
        app.controller.stop()
        assertTrue(app.controller.join(60_000))
    }

    @Test
    fun `WhatsApp's share sheet leads to a model that answers`() = learn("android.txt", "WhatsApp Chat with Ben.txt", "WhatsApp chat", "Anna Müller, 4 messages")

    @Test
    fun `an export of Telegram leads to a model that answers`() = learn("result.json", "result.json", "Telegram chats", "Anna Müller, 3 messages")

    private fun learn(file: String, name: String, kind: String, me: String) {
        val uri = Documents.register().add("1", name, File(Fixtures.folder, "chats/files/$file").readBytes())
        val shared = Intent(app, TextActivity::class.java).setAction(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_STREAM, uri)
            .putExtra(Intent.EXTRA_TEXT, "The chat is attached to this mail.")
        val data = sayWho(Robolectric.buildActivity(TextActivity::class.java, shared).setup().get(), kind, me)
        val page = train(data)
        val run = app.runs.list().single()
        assertEquals(run.reason, RunState.COMPLETED, run.state)
        val report = JSONObject(File(app.folders.data, "${run.data}/data.json").readText()).getJSONObject("train")
        assertTrue("only replies are learned: $report", report.getLong("labelled") in 1 until report.getLong("tokens"))
        val steps = TraceReader(run.trace).read().steps
        assertTrue("${steps.first().loss} to ${steps.last().loss}", steps.last().loss!! < 0.9 * steps.first().loss!!)
        await("the result in words") { text(page, "surprise the model ${run.outcome!!.percent}\u00A0% less") }
        ask(page)
    }

    /** "Who are you?" is answered by nobody but the user. */
    private fun sayWho(screen: Activity, kind: String, me: String): Intent {
        await("the row") { screen.findViewById<View>(R.id.me) != null }
        val people = screen.requireViewById<Spinner>(R.id.me)
        val make = screen.requireViewById<Button>(R.id.make)
        await("who speaks") { people.isShown && text(screen, kind) && screen.requireViewById<Spinner>(R.id.bundle).count == 1 }
        assertEquals("the words of the mail are nobody's text", "", screen.requireViewById<EditText>(R.id.text).text.toString())
        assertEquals("Choose who you are", people.selectedItem)
        assertFalse("before it is said who is who", make.isEnabled)
        make.performClick()
        Fixtures.idle()
        assertFalse(app.makingData.running)
        people.setSelection((0 until people.count).first { people.getItemAtPosition(it) == me })
        await("the button") { make.isEnabled }
        make.performClick()
        return opened(screen, NewRunActivity::class.java).also { assertTrue(screen.isFinishing) }
    }

    private fun train(data: Intent): Activity {
        val form = Robolectric.buildActivity(NewRunActivity::class.java, data).setup().get()
        await("the form") { text(form, "times through the text") }
        form.requireViewById<RadioButton>(R.id.thorough).performClick()
        // A model of random weights learns little at the usual rate.
        form.requireViewById<View>(R.id.expert).performClick()
        form.requireViewById<EditText>(R.id.rate).setText("2e-2")
        form.requireViewById<View>(R.id.start).performClick()
        val intent = opened(form, RunActivity::class.java)
        val started = shadowOf(app).nextStartedService
        val service = Robolectric.buildService(TrainingService::class.java, started).create()
        service.get().onStartCommand(started, 0, 1)
        val page = Robolectric.buildActivity(RunActivity::class.java, intent).setup().get()
        await("the training", 120) { app.controller.active == null && app.runs.list().single().state != RunState.RUNNING && app.runs.list().single().outcome != null }
        service.destroy()
        return page
    }

    private fun ask(page: Activity) {
        await("the button") { page.requireViewById<View>(R.id.ask).isShown }
        page.requireViewById<View>(R.id.ask).performClick()
        val screen = Robolectric.buildActivity(AskActivity::class.java, opened(page, AskActivity::class.java)).setup().get()
        await("the engine") { screen.requireViewById<View>(R.id.go).isEnabled }
        assertTrue("what learned a chat is asked as in a chat", screen.requireViewById<Switch>(R.id.as_chat).run { isShown && isChecked })
        screen.requireViewById<EditText>(R.id.prompt).setText(replies.getString("prompt"))
        screen.requireViewById<Button>(R.id.go).performClick()
        await("the answers", 120) { app.asking.question != null && !app.asking.errand.running }
        val (before, after) = listOf(R.id.before, R.id.after)
            .map { screen.requireViewById<View>(it).requireViewById<TextView>(R.id.answer).text.toString() }
        assertEquals("what the command line has it write before", replies.getString("chat_before"), before)
        assertNotEquals(before, after)
        assertNull(screen.requireViewById<EditText>(R.id.prompt).error)
        assertEquals("", screen.requireViewById<TextView>(R.id.problem).text.toString())
    }

    private fun opened(from: Activity, type: Class<out Activity>): Intent {
        var intent: Intent? = null
        await("the next screen") {
            val problem = from.requireViewById<TextView>(R.id.problem)
            assertFalse("${problem.text}", problem.isShown)
            intent = intent ?: shadowOf(from).nextStartedActivity
            intent != null
        }
        assertEquals(type.name, intent!!.component!!.className)
        return intent!!
    }
}
