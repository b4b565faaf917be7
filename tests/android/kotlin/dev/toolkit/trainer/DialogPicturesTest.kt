package dev.toolkit.trainer

import android.app.Activity
import android.content.Intent
import android.view.View
import android.widget.Spinner
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.languages
import dev.toolkit.trainer.Pictures.looks
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.SettingsActivity
import dev.toolkit.trainer.ui.TextActivity
import org.junit.After
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.shadows.ShadowDialog
import java.io.File
import java.util.Locale

/** What is asked of the user around chats, sharing and deletion, in every look and language: pictures to look at. */
@RunWith(RobolectricTestRunner::class)
class DialogPicturesTest {
    @get:Rule val temporary = TemporaryFolder()

    @After
    fun speakEnglish() = Locale.setDefault(Locale.US)

    /** Of tablets and of German in small letters there is nothing new to see. */
    private val chosen = listOf(looks[0], looks[1], looks[4]) + languages.drop(1)

    private fun shared(name: String, content: String): Intent {
        val uri = Documents.register().add("1", name, content.toByteArray())
        return Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_STREAM, uri)
    }

    @Test
    fun `who are you`() {
        Fixtures.deploy(temporary)
        val intent = shared("WhatsApp Chat with the family.txt", File(Fixtures.folder, "chats/files/us.txt").readText())
        for (look in chosen) {
            Pictures.apply(look)
            Pictures.take(look, "who-are-you", TextActivity::class.java, intent) { isFilled(it, R.id.me, 4) }
            if (look == looks[0]) Pictures.take(look, "who-are-you-said", TextActivity::class.java, intent, ::say) { isFilled(it, R.id.me, 4) }
        }
    }

    private fun say(screen: Activity) = choose(screen, R.id.me, 1)

    private fun choose(screen: Activity, id: Int, line: Int) = screen.requireViewById<Spinner>(id).setSelection(line)

    @Test
    fun `which column is learned`() {
        Fixtures.deploy(temporary)
        val intent = shared("Fragen und Antworten.csv", "Nr,Frage,Antwort\n1,wo?,hier\n2,wann?,jetzt\n")
        for (look in chosen) {
            Pictures.apply(look)
            Pictures.take(look, "columns", TextActivity::class.java, intent) { isFilled(it, R.id.answer, 4) }
            if (look == looks[0]) Pictures.take(look, "columns-said", TextActivity::class.java, intent, { choose(it, R.id.answer, 3) }) { isFilled(it, R.id.answer, 4) }
        }
    }

    private fun isFilled(root: View, id: Int, lines: Int) = root.findViewById<Spinner>(id)?.run { isShown && count == lines } == true

    @Test
    fun `what an adapter may give away, and that all is deleted`() {
        val app = Fixtures.deploy(temporary)
        File(Fixtures.folder, "bundles/words").copyRecursively(File(app.folders.own, "bundles/mine"))
        TextData(app.folders).make("my-letters", app.bundles.require("words"), listOf("hello there, how are you? ".repeat(60)))
        val run = Fixtures.talker(app, "letters-to-grandma")
        app.runs.save(run.copy(state = RunState.COMPLETED))
        val manifest = File(Fixtures.deployed(), "bundles/words/manifest.json")
        manifest.writeText(manifest.readText().replace("\"lowering\": \"mesp\"", "\"lowering\": \"approx-bp\""))
        for (look in chosen) {
            Pictures.apply(look)
            val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, run.name)).setup()
            await("the page") { page.get().requireViewById<View>(R.id.share).isShown }
            val approximate = app.getString(R.string.adapter_approximate)
            assertTrue(Pictures.text(page.get(), approximate))
            take(look, "dialog-share") { page.get().requireViewById<View>(R.id.share).performClick() }
            assertTrue(approximate in ShadowDialog.getLatestDialog().requireViewById<TextView>(R.id.words).text)
            ShadowDialog.getLatestDialog().dismiss()
            page.close()
            val settings = Robolectric.buildActivity(SettingsActivity::class.java).setup()
            await("what is kept") { settings.get().requireViewById<View>(R.id.wipe).isEnabled }
            take(look, "dialog-wipe") { settings.get().requireViewById<View>(R.id.wipe).performClick() }
            ShadowDialog.getLatestDialog().dismiss()
            settings.close()
        }
    }

    private fun take(look: Look, name: String, ask: () -> Unit) {
        val before = ShadowDialog.getLatestDialog()
        ask()
        await("the question") { ShadowDialog.getLatestDialog() !== before }
        Pictures.take(look, name, ShadowDialog.getLatestDialog())
    }
}
