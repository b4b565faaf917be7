package dev.toolkit.trainer

import android.app.Activity
import android.app.AlertDialog
import android.app.Dialog
import android.app.TimePickerDialog
import android.view.View
import android.view.ViewGroup
import android.widget.EditText
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.policy.Hours
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.SettingsActivity
import dev.toolkit.trainer.ui.TextActivity
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNotSame
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import org.robolectric.shadows.ShadowDialog
import java.io.File

/** What is asked in a dialog is still asked, with what was entered, when the phone was turned meanwhile. */
@RunWith(RobolectricTestRunner::class)
class QuestionsTest {
    @get:Rule val temporary = TemporaryFolder()
    private var wide = false

    private val latest: Dialog? get() = ShadowDialog.getLatestDialog()

    private fun asked(ask: () -> Unit): Dialog {
        val before = latest
        ask()
        await("the question") { latest !== before && latest!!.isShowing }
        return latest!!
    }

    private fun turn(controller: ActivityController<*>): Dialog {
        val before = latest!!
        wide = !wide
        RuntimeEnvironment.setQualifiers(if (wide) "+land" else "+port")
        val after = asked { controller.recreate() }
        assertNotSame(before, after)
        assertFalse("no window is left behind", before.isShowing)
        return after
    }

    private fun Dialog.press() = (this as AlertDialog).getButton(AlertDialog.BUTTON_POSITIVE).performClick()

    private fun title(dialog: Dialog) = shadowOf(dialog).title.toString()

    @Test
    fun `of a run`() {
        val app = Fixtures.deploy(temporary)
        val run = Fixtures.talker(app)
        app.runs.save(run.copy(state = RunState.COMPLETED))
        File(run.folder, "checkpoints/step-3").mkdirs()
        run.adapter.copyTo(File(run.folder, "checkpoints/step-3/adapter_model.safetensors"))
        val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, run.name)).setup()
        await("the page") { page.get().requireViewById<View>(R.id.share).isShown && page.get().requireViewById<View>(R.id.versions).isShown }
        asked { repeat(2) { page.get().requireViewById<View>(R.id.share).performClick() } }
        Fixtures.advance(500)
        assertEquals("two taps ask once", 1, ShadowDialog.getShownDialogs().filter { it.isShowing }.distinct().size)
        assertEquals("Share what was learned?", title(turn(page)))
        assertEquals("no window is left behind", 1, ShadowDialog.getShownDialogs().filter { it.isShowing }.distinct().size)
        latest!!.dismiss()
        asked { page.get().requireViewById<View>(R.id.versions).performClick() }
        assertEquals("Go back to an earlier save", title(turn(page)))
        latest!!.dismiss()
        asked { shadowOf(page.get()).clickMenuItem(R.id.rename) }
        latest!!.requireViewById<EditText>(R.id.new_name).setText("letters")
        assertEquals("letters", turn(page).requireViewById<EditText>(R.id.new_name).text.toString())
        latest!!.press()
        await("the new name, in the bar") { app.runs.exists("letters") && page.get().requireViewById<TextView>(R.id.run_name).text.toString() == "letters" }
        assertEquals("letters", page.get().title.toString())
        asked { shadowOf(page.get()).clickMenuItem(R.id.delete) }
        turn(page).press()
        await("the end") { page.get().isFinishing && !app.runs.exists("letters") }
        page.close()
        wide = false
        val screen = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, Fixtures.create(app, "other").name)).setup()
        await("the page") { text(screen.get(), "Not started") }
        screen.recreate()
        assertFalse("what was answered is not asked again", latest!!.isShowing)
        screen.close()
    }

    @Test
    fun `of the first screen, where a finished run can be deleted`() {
        val app = Fixtures.deploy(temporary)
        val run = Fixtures.talker(app)
        File(Fixtures.folder, "bundles/words").copyRecursively(File(app.folders.own, "bundles/mine"))
        File(app.folders.runs, "broken").mkdirs()
        val screen = Robolectric.buildActivity(MainActivity::class.java).setup()
        val card = { id: Int, list: Int -> screen.get().requireViewById<ViewGroup>(list).getChildAt(0)?.findViewById<View>(id)?.takeIf { it.isShown } }
        await("the card") { card(R.id.delete_run, R.id.runs) != null }
        assertEquals("Delete run talks", card(R.id.delete_run, R.id.runs)!!.contentDescription)
        asked { card(R.id.delete_run, R.id.runs)!!.performClick() }
        turn(screen).press()
        await("the deletion") { !app.runs.exists(run.name) && screen.get().requireViewById<ViewGroup>(R.id.runs).childCount == 0 }
        val model = { Pictures.views(screen.get()).firstOrNull { it.id == R.id.delete_model && it.isShown } }
        await("the model") { model() != null }
        asked { model()!!.performClick() }
        turn(screen).press()
        await("the deletion") { app.bundles.list().none { it.own } }
        screen.close()
    }

    @Test
    fun `of data, of everything and of the hours`() {
        val app = Fixtures.deploy(temporary)
        TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there"))
        val texts = Robolectric.buildActivity(TextActivity::class.java).setup()
        await("the data") { text(texts.get(), "mine") }
        asked { texts.get().requireViewById<View>(R.id.delete).performClick() }
        turn(texts).press()
        await("the deletion") { app.data.find("mine") == null }
        texts.close()
        app.policy.write(app.policy.read().copy(hours = Hours(1380, 420)))
        val settings: ActivityController<out Activity> = Robolectric.buildActivity(SettingsActivity::class.java).setup()
        (asked { settings.get().requireViewById<View>(R.id.hours_from).performClick() } as TimePickerDialog).updateTime(21, 30)
        (turn(settings) as TimePickerDialog).getButton(TimePickerDialog.BUTTON_POSITIVE).performClick()
        Fixtures.idle()
        assertEquals(Hours(21 * 60 + 30, 420), app.policy.read().hours)
        Fixtures.create(app, "a")
        settings.recreate()
        await("what is kept") { settings.get().requireViewById<View>(R.id.wipe).isEnabled }
        asked { settings.get().requireViewById<View>(R.id.wipe).performClick() }
        turn(settings).press()
        await("the deletion") { app.runs.list().isEmpty() }
        settings.close()
    }
}
